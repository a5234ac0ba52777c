"""A base class for Celery tasks that run under the organization for which they were started.

    app = Celery(task_cls="orgcast.celery:OrganizationTask")
"""

from __future__ import annotations

from typing import Any, Optional

from celery import Task, current_task

from .context import current_organization, current_user, organization_context
from .errors import NoOrganization

_ORGANIZATION, _USER = "orgcast_organization", "orgcast_user"


class OrganizationTask(Task):  # type: ignore[misc]
    """Carries the current organization and user from where a task is started to where it runs.

    A task that is started without a current organization, and one whose message names none, is refused
    with NoOrganization. Tasks that a task starts, retries included, belong to its organization.
    """

    abstract = True

    def apply_async(
        self, args: Any = None, kwargs: Any = None, task_id: Any = None, producer: Any = None, **options: Any
    ) -> Any:
        """Starts the task under the current organization."""
        options["headers"] = {**(options.get("headers") or {}), **_headers()}
        return super().apply_async(args, kwargs, task_id=task_id, producer=producer, **options)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Runs the task here, under the current organization."""
        options["headers"] = {**(options.get("headers") or {}), **_headers()}
        return super().apply(args, kwargs, **options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        carried = _carried(self.request)
        if carried is None:
            if self.request.id is not None:
                raise NoOrganization(f"orgcast: the message of task {self.name} names no organization")
            current_organization()  # called as a function: it runs under the caller's
            return super().__call__(*args, **kwargs)
        organization, user = carried
        with organization_context(organization, user):
            return self.run(*args, **kwargs)  # Task.__call__ would hide the request from it


def _carried(request: Any) -> Optional[tuple[str, Optional[str]]]:
    """Returns what the message of a task says, or None."""
    headers = request.headers or {}
    organization = headers.get(_ORGANIZATION) or getattr(request, _ORGANIZATION, None)
    user = headers.get(_USER) or getattr(request, _USER, None)
    return None if organization is None else (organization, user)


def _headers() -> dict[str, str]:
    """Returns what the message of a task has to say: the current organization and user."""
    try:
        organization, user = current_organization(), current_user()
    except NoOrganization:
        # Celery starts the next task of a chain, and callbacks, after the task before them has returned.
        carried = _carried(current_task.request) if current_task else None
        if carried is None:
            raise
        organization, user = carried
    return {_ORGANIZATION: organization, **({_USER: user} if user else {})}
