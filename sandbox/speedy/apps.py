from django.apps import AppConfig


class SpeedyConfig(AppConfig):
    name = "speedy"
    verbose_name = "Shift assignment"

    def ready(self) -> None:
        # Importing the package connects its receivers.
        import speedy.signals  # noqa: F401, PLC0415
