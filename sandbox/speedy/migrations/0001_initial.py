import django.db.models.deletion
import django.utils.timezone
from decimal import Decimal
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Employees',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('first_name', models.CharField(max_length=100)),
                ('last_name', models.CharField(max_length=100)),
                ('address', models.CharField(max_length=200)),
                ('age', models.IntegerField()),
                ('date_of_birth', models.DateField()),
            ],
            options={
                'verbose_name': 'employee',
                'verbose_name_plural': 'employees',
            },
        ),
        migrations.CreateModel(
            name='PlanLock',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
            ],
        ),
        migrations.CreateModel(
            name='Shifts',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('wage_bonus', models.DecimalField(decimal_places=2, default=Decimal('50.00'), max_digits=8)),
                ('total_hours', models.IntegerField(default=8)),
                ('shift_date', models.DateField(db_index=True, default=django.utils.timezone.localdate)),
            ],
            options={
                'verbose_name': 'shift',
                'verbose_name_plural': 'shifts',
            },
        ),
        migrations.CreateModel(
            name='ShiftsEmployees',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('employee', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='speedy.employees')),
                ('shift', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='speedy.shifts')),
            ],
            options={
                'verbose_name': 'assignment',
            },
        ),
        migrations.AddField(
            model_name='shifts',
            name='employees_shift',
            field=models.ManyToManyField(related_name='shifts', through='speedy.ShiftsEmployees', to='speedy.employees'),
        ),
        migrations.AddConstraint(
            model_name='shiftsemployees',
            constraint=models.UniqueConstraint(fields=('shift', 'employee'), name='speedy_employee_once_per_shift'),
        ),
    ]
