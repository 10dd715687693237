"""Django (WSGI) on gunicorn, a whole site in one file. The broker comes from gunicorn.conf.py beside it:

    gunicorn --workers 4 django_app:application

What changes in the app: the view's module makes the handle when it is imported, in place of loading the model in
`AppConfig.ready()`. `manage.py` commands that call no model need no broker.
"""

# ruff: noqa: INP001

import os

import numpy as np
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

import worker_client

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"])

mean = worker_client.connect().model("mean")


def get_mean(request: HttpRequest) -> JsonResponse:
    row = np.array([request.GET.getlist("x")], dtype="float32")
    return JsonResponse({"mean": float(mean.predict(row)[0, 0]), "pid": os.getpid()})


urlpatterns = [path("mean", get_mean)]
application = get_wsgi_application()
