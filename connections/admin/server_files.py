"""Import with a look beforehand, and export. A file that waits for its import is kept sealed: it may hold secrets."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from oauthflow.protocol.errors import SecretUnreadableError
from oauthflow.protocol.secret import Secret

from ..formats.entry import UnreadableFileError
from ..formats.export import ExportFormat, export_servers
from ..formats.imports import ImportResult, import_servers
from ..forms import ImportForm
from ..models import McpServer
from ..sealing import Ciphertext, seal, unseal

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_WAITING: Final = "servers_to_import"
_KEPT: Final = timedelta(minutes=15)
_REMARKS_SHOWN: Final = 20
_DESCRIBED: Final = {
    ExportFormat.YAML: "This site's own YAML: everything but the secrets; can be imported again.",
    ExportFormat.MCP_SERVERS: "mcpServers, for Claude Desktop, Cursor and others.",
    ExportFormat.VS_CODE: "VS Code, which asks for what is secret.",
    ExportFormat.REGISTRY: "server.json of the MCP registry; without local programs.",
}


def files_page(request: HttpRequest, *, actor: User, may_import: bool, site: AdminSite) -> HttpResponse:
    """Show the page, look at an uploaded file, or import the one that was looked at."""
    form = ImportForm()
    result: ImportResult | None = None
    if request.method == "POST":
        if not may_import:
            raise PermissionDenied
        if "confirmed" in request.POST:
            return _import_waiting(request, actor=actor)
        form = ImportForm(request.POST, request.FILES)
        if form.is_valid():
            result = _look_at(request, form, actor=actor)
    context = {
        **site.each_context(request),
        "title": "Import and export",
        "opts": McpServer._meta,
        "form": form,
        "result": result,
        "may_import": may_import,
        "exports": [{"name": kind.value, "description": said} for kind, said in _DESCRIBED.items()],
    }
    return TemplateResponse(request, "admin/connections/mcpserver/files.html", context)


@require_safe
def _file(request: HttpRequest, kind: ExportFormat) -> HttpResponse:
    text = export_servers(McpServer.objects.prefetch_related("users", "groups"), kind=kind)
    headers = {"Content-Disposition": f'attachment; filename="{kind.file_name}"', "Cache-Control": "no-store"}
    return HttpResponse(text, content_type=kind.media_type, headers=headers)


def download(request: HttpRequest, *, kind: str) -> HttpResponse:
    """Give all servers out in one format; secrets are left out and marked."""
    if kind not in set(ExportFormat):
        raise Http404
    return _file(request, ExportFormat(kind))


def _look_at(request: HttpRequest, form: ImportForm, *, actor: User) -> ImportResult | None:
    text, update, now = form.cleaned_data["file"], form.cleaned_data["update"], timezone.now()
    try:
        result = import_servers(text, actor=actor, now=now, update=update, dry_run=True)
    except UnreadableFileError as error:
        form.add_error("file", str(error))
        return None
    sealed = str.__str__(seal(Secret(text), context=_context(actor)))
    request.session[_WAITING] = {"sealed": sealed, "update": update, "until": (now + _KEPT).isoformat()}
    return result


def _import_waiting(request: HttpRequest, *, actor: User) -> HttpResponse:
    waiting: dict[str, Any] | None = request.session.pop(_WAITING, None)
    now = timezone.now()
    here = HttpResponseRedirect(reverse("admin:connections_mcpserver_files"))
    if waiting is None or datetime.fromisoformat(waiting["until"]) <= now:
        messages.error(request, "The file was not kept that long. Choose it again.")
        return here
    try:
        text = unseal(Ciphertext(waiting["sealed"]), context=_context(actor)).reveal()
    except SecretUnreadableError:
        messages.error(request, "The file cannot be read any more. Choose it again.")
        return here
    result = import_servers(text, actor=actor, now=now, update=waiting["update"])
    messages.success(request, f"{len(result.created)} created, {len(result.updated)} changed.")
    for remark in [*result.problems, *result.notes][:_REMARKS_SHOWN]:
        messages.warning(request, f"{remark.name}: {remark.reason}")
    return HttpResponseRedirect(reverse("admin:connections_mcpserver_changelist"))


def _context(actor: User) -> str:
    return f"import\nsession\n{actor.pk}"
