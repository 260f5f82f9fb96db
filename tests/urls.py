"""URLs of the test project; tests override them where they need their own."""

urlpatterns: list[object] = []
