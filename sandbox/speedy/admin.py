from django.contrib import admin

from speedy.models import Employees, Shifts, ShiftsEmployees


class AssignmentInline(admin.TabularInline):
    model = ShiftsEmployees
    extra = 0


@admin.register(Employees)
class EmployeesAdmin(admin.ModelAdmin):
    list_display = ("__str__", "first_name", "last_name", "age")
    search_fields = ("first_name", "last_name")


@admin.register(Shifts)
class ShiftsAdmin(admin.ModelAdmin):
    list_display = ("__str__", "shift_date", "wage_bonus", "total_hours")
    date_hierarchy = "shift_date"
    inlines = (AssignmentInline,)
