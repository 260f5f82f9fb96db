from django.db import migrations


def make_the_row(apps, schema_editor):
    lock = apps.get_model("speedy", "PlanLock")
    lock.objects.using(schema_editor.connection.alias).get_or_create(pk=1)


class Migration(migrations.Migration):
    dependencies = [("speedy", "0001_initial")]

    operations = [migrations.RunPython(make_the_row, migrations.RunPython.noop)]
