"""An authorization server in a few lines, with one switch for each way in which real ones misbehave."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus, urlencode, urlsplit

from .internet import Answer, Call
from .proofs import Proof, read_proof

CLIENT_CREDENTIALS = "client_credentials"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


@dataclass
class FakeAuthorizationServer:
    """Speaks RFC 8414, 7591, 7592, 7636, 7009, 9207. Everything it was asked is in `token_requests` and its like."""

    issuer: str = "https://as.example"
    scopes_supported: list[str] | None = None
    auth_methods: list[str] | None = field(default_factory=lambda: ["client_secret_basic", "none"])
    expires_in: Any = 3600
    issues_refresh_token: bool = True
    rotates: bool = True
    sends_iss: bool = True
    promises_iss: bool = True
    # Switches, one for each misbehaviour.
    advertises_pkce: bool = True
    published_issuer: str = ""
    offers_registration: bool = True
    accepts_metadata_documents: bool = False
    offers_revocation: bool = True
    metadata_overrides: dict[str, Any] = field(default_factory=dict)
    metadata_answer: Answer | None = None
    registration_answer: Answer | None = None
    registration_overrides: dict[str, Any] = field(default_factory=dict)
    deletion_answer: Answer | None = None
    token_answer: Answer | None = None
    token_overrides: dict[str, Any] = field(default_factory=dict)
    refresh_answer: Answer | None = None
    revocation_answer: Answer | None = None
    forgets_clients: bool = False
    iss_override: str | None = None
    denies_with: str = ""
    subject: str = ""
    id_token_overrides: dict[str, Any] = field(default_factory=dict)
    marker: str = ""
    before_token_answer: Callable[[], object] | None = None
    grant_types: list[str] = field(default_factory=lambda: ["authorization_code", "refresh_token"])
    unattended_answer: Answer | None = None
    exchange_overrides: dict[str, Any] = field(default_factory=dict)
    binds_tokens: bool = False
    dpop_nonce: str = ""
    dpop_algorithms: list[str] | None = None

    clients: dict[str, dict[str, Any]] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    authorization_requests: list[dict[str, str]] = field(default_factory=list)
    registrations: list[dict[str, Any]] = field(default_factory=list)
    deletions: list[str] = field(default_factory=list)
    token_requests: list[dict[str, str]] = field(default_factory=list)
    refresh_requests: list[dict[str, str]] = field(default_factory=list)
    revocations: list[dict[str, str]] = field(default_factory=list)
    unattended_requests: list[dict[str, str]] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)

    @property
    def origin(self) -> str:
        parts = urlsplit(self.issuer)
        return f"{parts.scheme}://{parts.netloc}"

    def metadata(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "issuer": self.published_issuer or self.issuer,
            "authorization_endpoint": f"{self.origin}/authorize",
            "token_endpoint": f"{self.origin}/token",
            "response_types_supported": ["code"],
            "grant_types_supported": self.grant_types,
            "dpop_signing_alg_values_supported": self.dpop_algorithms,
            "token_endpoint_auth_methods_supported": self.auth_methods,
            "authorization_response_iss_parameter_supported": self.promises_iss,
        }
        if self.advertises_pkce:
            document["code_challenge_methods_supported"] = ["S256"]
        if self.offers_registration:
            document["registration_endpoint"] = f"{self.origin}/register"
        if self.offers_revocation:
            document["revocation_endpoint"] = f"{self.origin}/revoke"
        if self.accepts_metadata_documents:
            document["client_id_metadata_document_supported"] = True
        if self.scopes_supported is not None:
            document["scopes_supported"] = self.scopes_supported
        kept = {name: value for name, value in document.items() if value is not None}
        return kept | self.metadata_overrides

    def __call__(self, call: Call) -> Answer:
        if "/.well-known/" in call.path:
            expected = f"/.well-known/oauth-authorization-server{urlsplit(self.issuer).path}".rstrip("/")
            if call.path != expected:
                return Answer(404)
            return self.metadata_answer or Answer(body=self.metadata())
        endpoints = {"/register": self._register, "/token": self._token, "/revoke": self._revoke}
        if call.path.startswith("/register/"):
            return self._manage(call)
        return endpoints[call.path](call)

    def authorize(self, url: str) -> str:
        """What a browser is sent to comes back as the address it is redirected to; the person always agrees."""
        query = Call("GET", url, {}, "").query
        self.authorization_requests.append(query)
        if self.denies_with:
            answer = {"error": self.denies_with, "error_description": "<script>alert(1)</script>"}
        else:
            code = f"code-{self.marker}{secrets.token_hex(8)}"
            self.codes[code] = query
            answer = {"code": code}
        answer["state"] = query["state"]
        iss = self.iss_override if self.iss_override is not None else (self.issuer if self.sends_iss else "")
        if iss:
            answer["iss"] = iss
        return f"{query['redirect_uri']}?{urlencode(answer)}"

    def _register(self, call: Call) -> Answer:
        self.registrations.append(call.json)
        if self.registration_answer:
            return self.registration_answer
        client_id = f"client-{len(self.registrations)}"
        document = {
            **call.json,
            "client_id": client_id,
            "registration_client_uri": f"{self.origin}/register/{client_id}",
            "registration_access_token": f"rat-{self.marker}{secrets.token_hex(8)}",
        }
        if call.json.get("token_endpoint_auth_method") in ("client_secret_basic", "client_secret_post"):
            document |= {"client_secret": f"secret-{self.marker}{secrets.token_hex(8)}", "client_secret_expires_at": 0}
        document |= self.registration_overrides
        self.clients[client_id] = document
        return Answer(201, document)

    def _manage(self, call: Call) -> Answer:
        assert call.method == "DELETE"
        client_id = call.path.rpartition("/")[2]
        assert call.headers["Authorization"] == f"Bearer {self.clients[client_id]['registration_access_token']}"
        if self.deletion_answer:
            return self.deletion_answer
        self.deletions.append(client_id)
        self.clients.pop(client_id)
        return Answer(204)

    def _token(self, call: Call) -> Answer:
        sent = {**call.form, "client": self._client(call), "authorization": call.headers.get("Authorization", "")}
        if self.before_token_answer:
            self.before_token_answer()
        if "DPoP" in call.headers:
            self.proofs.append(read_proof(call))
            if self.dpop_nonce and self.proofs[-1].claims.get("nonce") != self.dpop_nonce:
                return Answer(400, {"error": "use_dpop_nonce"}, {"DPoP-Nonce": self.dpop_nonce})
        is_bound = self.binds_tokens and "DPoP" in call.headers
        answer = self._granted(sent)
        if is_bound and "access_token" in answer.body and "issued_token_type" not in answer.body:
            answer.body["token_type"] = "DPoP"
        return answer

    def _granted(self, sent: dict[str, str]) -> Answer:
        if sent["grant_type"] in (CLIENT_CREDENTIALS, JWT_BEARER, TOKEN_EXCHANGE):
            return self._unattended(sent)
        if sent["grant_type"] == "refresh_token":
            return self._refresh(sent)
        self.token_requests.append(sent)
        if self.forgets_clients:
            return Answer(401, {"error": "invalid_client"})
        if self.token_answer:
            return self.token_answer
        asked = self.codes.pop(sent.get("code", ""), None)
        if asked is None or asked["redirect_uri"] != sent["redirect_uri"] or asked["client_id"] != sent["client"]:
            return Answer(400, {"error": "invalid_grant"})
        digest = hashlib.sha256(sent["code_verifier"].encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            return Answer(400, {"error": "invalid_grant"})
        return self._tokens(asked.get("scope", ""), client=sent["client"])

    def _unattended(self, sent: dict[str, str]) -> Answer:
        self.unattended_requests.append(sent)
        if self.unattended_answer:
            return self.unattended_answer
        if sent["grant_type"] != TOKEN_EXCHANGE:
            return self._tokens(sent.get("scope", ""), client=sent["client"])
        part = base64.urlsafe_b64encode(json.dumps({"sub": "somebody"}).encode()).decode().rstrip("=")
        issued = {
            "access_token": f"{part}.{part}.c2lnbmF0dXJl{len(self.unattended_requests)}",
            "issued_token_type": "urn:ietf:params:oauth:token-type:id-jag",
            "token_type": "N_A",
        }
        return Answer(body=issued | self.exchange_overrides)

    def _refresh(self, sent: dict[str, str]) -> Answer:
        self.refresh_requests.append(sent)
        if self.forgets_clients:
            return Answer(401, {"error": "invalid_client"})
        if self.refresh_answer:
            return self.refresh_answer
        scope = self.refresh_tokens.get(sent["refresh_token"])
        if scope is None:
            return Answer(400, {"error": "invalid_grant"})
        if self.rotates:
            self.refresh_tokens.pop(sent["refresh_token"])
        return self._tokens(scope, client=sent["client"])

    def _tokens(self, scope: str, *, client: str) -> Answer:
        document: dict[str, Any] = {
            "access_token": f"at-{self.marker}{secrets.token_hex(8)}",
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "scope": scope,
        }
        if self.issues_refresh_token:
            refresh_token = f"rt-{self.marker}{secrets.token_hex(8)}"
            self.refresh_tokens[refresh_token] = scope
            document["refresh_token"] = refresh_token
        if self.subject:
            document["id_token"] = self._id_token(client)
        document |= self.token_overrides
        return Answer(body={name: value for name, value in document.items() if value is not None})

    def _id_token(self, client: str) -> str:
        claims = {"iss": self.issuer, "sub": self.subject, "aud": client, "email": "somebody@example.com"}
        parts = [{"alg": "RS256"}, claims | self.id_token_overrides, f"signature-{self.marker}"]
        return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)

    def _revoke(self, call: Call) -> Answer:
        self.revocations.append(call.form)
        self.refresh_tokens.pop(call.form["token"], None)
        return self.revocation_answer or Answer(200)

    def _client(self, call: Call) -> str:
        basic = call.headers.get("Authorization", "")
        if basic.startswith("Basic "):
            client_id, _, secret = base64.b64decode(basic[6:]).decode().partition(":")
            client_id = unquote_plus(client_id)
            known = self.clients.get(client_id, {}).get("client_secret")
            assert known is None or known == unquote_plus(secret)
            assert "client_id" not in call.form
            return client_id
        return call.form.get("client_id", "")
