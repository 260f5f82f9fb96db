"""The user of a request, found without the view noticing."""

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import RequestFactory, override_settings
from django.utils.functional import SimpleLazyObject

from django_signal_audit.actors import actor_look_up
from django_signal_audit.event import Actor

pytestmark = pytest.mark.django_db


@pytest.fixture
def zoe():
    return User.objects.create_user("zoe", password="pw")


def request_of(user, store=SessionStore):
    """A request with a session that is not loaded, as the two middlewares make it."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    request = RequestFactory().get("/")
    request.session = store(session.session_key)
    AuthenticationMiddleware(lambda request: None).process_request(request)
    return request


def actor_of(user):
    return Actor("user", str(user.pk), user.username)


def test_the_answer_is_that_of_the_moment_of_asking(zoe):
    request = request_of(zoe)
    look_up = actor_look_up(request)
    request.session.clear()

    assert look_up() == actor_of(zoe)


def test_so_it_is_when_the_session_was_loaded_before(zoe):
    request = request_of(zoe)
    request.session.get("anything")
    look_up = actor_look_up(request)
    del request.session[SESSION_KEY]

    assert look_up() == actor_of(zoe)


def test_what_an_async_view_found_needs_no_query(zoe, django_assert_num_queries):
    request = request_of(zoe)
    async_to_sync(request.auser)()
    look_up = actor_look_up(request)
    request.session.flush()

    with django_assert_num_queries(0):
        assert look_up() == actor_of(zoe)


def test_what_the_view_finds_meanwhile_needs_no_query(zoe, django_assert_num_queries):
    request = request_of(zoe)
    look_up = actor_look_up(request)
    assert request.user.username == "zoe"

    with django_assert_num_queries(0):
        assert look_up() == actor_of(zoe)


def test_it_is_found_once_and_the_view_need_not_query_again(zoe, django_assert_num_queries):
    request = request_of(zoe)
    with django_assert_num_queries(2):
        assert actor_look_up(request)() == actor_look_up(request)() == actor_of(zoe)
    assert not request.session.accessed

    with django_assert_num_queries(0):
        assert request.user == zoe
        assert request.session[SESSION_KEY] == str(zoe.pk)
    assert request.session.accessed


def test_that_the_view_touches_its_session_meanwhile_is_not_forgotten(zoe):
    """It decides whether the response varies on the cookie, and whether the session is saved."""
    touched = []

    class Store(SessionStore):
        key_salt = SessionStore().key_salt

        def load(self):
            if not touched:
                touched.append(True)
                request.session["cart"] = 5
            return super().load()

    request = request_of(zoe, Store)

    assert actor_look_up(request)() == actor_of(zoe)
    assert request.session.accessed and request.session.modified
    assert request.session["cart"] == 5


def test_a_session_that_has_to_end_is_ended_by_the_views_own_asking(zoe):
    request = request_of(zoe)
    zoe.set_password("other")
    zoe.save()

    assert actor_look_up(request)() == Actor("anonymous")
    assert Session.objects.count() == 1
    assert request.user == AnonymousUser()
    assert Session.objects.count() == 0


def test_a_session_that_needs_a_new_key_gets_it_by_the_views_own_asking(zoe):
    with override_settings(SECRET_KEY="older"):
        request = request_of(zoe)
    key = request.session.session_key
    with override_settings(SECRET_KEY_FALLBACKS=["older"]):
        # A session is signed by the secret key too.
        assert actor_look_up(request)() == actor_of(zoe)
        assert request.session.session_key == key
        assert not request.session.modified
        assert request.user == zoe
    assert request.session.session_key != key
    assert request.session.modified


def test_of_a_session_that_is_gone_the_view_hears_itself(zoe):
    request = request_of(zoe)
    Session.objects.all().delete()

    assert actor_look_up(request)() == Actor("anonymous")
    assert request.user == AnonymousUser()
    assert request.session.session_key is None


@pytest.mark.parametrize("accessed", [False, True])
def test_a_lazy_user_of_anothers_making_leaves_the_session_as_it_was(zoe, accessed):
    request = request_of(zoe)
    request.user = SimpleLazyObject(lambda: User.objects.get(pk=request.session[SESSION_KEY]))
    request.session.accessed = accessed

    assert actor_look_up(request)() == actor_of(zoe)
    assert request.session.accessed == accessed
    assert request.user == zoe
    assert request.session.accessed


def test_without_a_session_a_lazy_user_is_simply_asked(zoe):
    request = RequestFactory().get("/")
    request.user = SimpleLazyObject(lambda: zoe)

    assert actor_look_up(request)() == actor_of(zoe)


def test_what_could_not_be_found_is_looked_for_again(zoe, caplog):
    answers = [OperationalError("gone away"), zoe]

    def find():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    request = RequestFactory().get("/")
    request.user = SimpleLazyObject(find)

    assert actor_look_up(request)() == Actor("user", None, "unresolved (OperationalError)")
    assert "could not be read" in caplog.text
    assert actor_look_up(request)() == actor_of(zoe)


def test_another_user_is_another_actor(zoe):
    request = request_of(zoe)
    assert actor_look_up(request)() == actor_of(zoe)
    request.user = AnonymousUser()

    assert actor_look_up(request)() == Actor("anonymous")


def test_without_a_user_there_is_no_actor():
    assert actor_look_up(RequestFactory().get("/"))() is None
