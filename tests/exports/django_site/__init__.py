"""A Django project with django-allauth and social-auth-app-django, on a PostgreSQL of the test's."""
