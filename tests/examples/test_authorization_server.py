from __future__ import annotations

import httpx2
import pytest

from examples.authorization_server.app import create_app
from examples.authorization_server.configuration import Configuration

from .people import Person, callback_parameters
from .programs import CALLBACK, EVERYTHING, Program


def test_the_metadata_names_the_issuer_and_what_a_client_needs(issuer):
    document = httpx2.get(f"{issuer}/.well-known/oauth-authorization-server", headers={"Origin": "https://app.example"})
    assert document.headers["Access-Control-Allow-Origin"] == "*"
    metadata = document.json()
    assert metadata["issuer"] == issuer
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert "offline_access" in metadata["scopes_supported"]
    assert "client_id_metadata_document_supported" not in metadata


async def test_an_issuer_with_a_path_has_its_metadata_inserted_before_that_path(tmp_path):
    issuer = "http://127.0.0.1:9000/tenant"
    app = create_app(Configuration(issuer=issuer, data_dir=tmp_path, redirect_uris=(CALLBACK,)))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1:9000") as http:
        metadata = (await http.get("/.well-known/oauth-authorization-server/tenant")).json()
        assert metadata["issuer"] == issuer
        assert (await http.get("/.well-known/oauth-authorization-server")).status_code == 404
        assert (await http.get(metadata["authorization_endpoint"])).status_code == 400
        assert (await http.post(metadata["token_endpoint"])).status_code == 401
        login = await http.get("/tenant/login")
        assert 'action="/tenant/login"' in login.text
        assert (await http.get("/tenant/static/style.css")).status_code == 200
    app.state.database.close()


def test_a_person_signs_in_and_consents_and_the_program_gets_tokens(program: Program, person: Person):
    login = person.open(program.authorization_url())
    assert login.status_code == 200
    assert person.sign_in(login, password="wrong").status_code == 401
    consent = person.sign_in(login)
    for named in ("Test program", "127.0.0.1:7777", "testuser", program.resource, *EVERYTHING.split()):
        assert named in consent.text
    answer = person.decide(consent)
    assert answer["state"] == "a state"
    assert answer["iss"] == program.issuer
    response = program.redeem(answer["code"])
    assert response.headers["Cache-Control"] == "no-store"
    tokens = response.json()
    assert tokens["expires_in"] == 60
    assert set(tokens["scope"].split()) == set(EVERYTHING.split())
    claims = program.introspect(tokens["access_token"]).json()
    assert claims["active"] is True
    assert (claims["sub"], claims["aud"], claims["iss"]) == ("testuser", program.resource, program.issuer)


def test_a_denial_goes_back_with_state_and_issuer(program: Program, person: Person):
    consent = person.sign_in(person.open(program.authorization_url()))
    answer = person.decide(consent, decision="deny")
    assert (answer["error"], answer["state"], answer["iss"]) == ("access_denied", "a state", program.issuer)


def test_a_decision_counts_once(program: Program, person: Person):
    consent = person.sign_in(person.open(program.authorization_url()))
    person.decide(consent)
    assert person.open(str(consent.url)).status_code == 400


def test_a_form_from_another_site_is_refused(program: Program, person: Person):
    consent = person.sign_in(person.open(program.authorization_url()))
    person.http.headers["Sec-Fetch-Site"] = "cross-site"
    assert person.http.post(f"{person.issuer}/consent", data={"decision": "allow"}).status_code == 403
    del person.http.headers["Sec-Fetch-Site"]
    foreign = {"Origin": "https://evil.example"}
    assert person.http.post(f"{person.issuer}/login", data={}, headers=foreign).status_code == 403
    person.http.headers["Sec-Fetch-Site"] = "same-origin"
    assert "code" in person.decide(consent)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"scope": "notes:read root"}, "invalid_scope"),
        ({"resource": "http://127.0.0.1:1/mcp"}, "invalid_target"),
    ],
)
def test_a_request_that_is_not_sound_is_answered_to_the_client(program: Program, person: Person, changes, code):
    answer = callback_parameters(person.open(program.authorization_url(**changes)))
    assert (answer["error"], answer["state"], answer["iss"]) == (code, "a state", program.issuer)


@pytest.mark.parametrize("changes", [{"client_id": "nobody"}, {"redirect_uri": "https://evil.example/callback"}])
def test_an_unknown_client_or_redirect_uri_is_answered_to_the_person_only(program: Program, person: Person, changes):
    page = person.open(program.authorization_url(**changes))
    assert page.status_code == 400
    assert "Location" not in page.headers


def test_another_port_of_this_machine_is_the_same_redirect_uri(program: Program, person: Person):
    program.redirect_uri = CALLBACK.replace("7777", "8888")
    assert program.redeem(person.allow(program.authorization_url())["code"]).status_code == 200


def test_a_wrong_verifier_is_refused_and_the_right_one_still_works(program: Program, person: Person):
    code = person.allow(program.authorization_url())["code"]
    refused = program.redeem(code, code_verifier="w" * 43)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert program.redeem(code).status_code == 200


def test_a_code_shown_twice_ends_what_it_issued(program: Program, person: Person):
    code = person.allow(program.authorization_url())["code"]
    token = program.redeem(code).json()["access_token"]
    assert program.is_active(token)
    assert program.redeem(code).json()["error"] == "invalid_grant"
    assert not program.is_active(token)


def test_a_code_is_for_its_client_redirect_uri_and_resource_only(program: Program, person: Person):
    code = person.allow(program.authorization_url())["code"]
    other = Program.registered(program.http, issuer=program.issuer, resource=program.resource)
    other.verifier = program.verifier
    assert other.redeem(code).json()["error"] == "invalid_grant"
    assert program.redeem(code, redirect_uri="http://127.0.0.1:7777/other").json()["error"] == "invalid_grant"
    assert program.redeem(code, resource="https://other.example").json()["error"] == "invalid_target"
    assert program.redeem(code).status_code == 200


def test_refresh_tokens_rotate_and_an_old_one_ends_the_family(program: Program, person: Person):
    first = program.redeem(person.allow(program.authorization_url())["code"]).json()
    second = program.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    third = program.refresh(second["refresh_token"], scope="notes:read").json()
    assert third["scope"] == "notes:read"
    assert program.is_active(third["access_token"])
    assert program.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
    assert program.refresh(third["refresh_token"]).json()["error"] == "invalid_grant"
    assert not program.is_active(third["access_token"])


def test_a_refresh_cannot_widen_the_scope(program: Program, person: Person):
    url = program.authorization_url(scope="notes:read offline_access")
    tokens = program.redeem(person.allow(url)["code"]).json()
    assert program.refresh(tokens["refresh_token"], scope="notes:write").json()["error"] == "invalid_scope"


def test_without_offline_access_there_is_no_refresh_token(program: Program, person: Person):
    url = program.authorization_url(scope="notes:read")
    assert "refresh_token" not in program.redeem(person.allow(url)["code"]).json()


def test_introspection_is_for_resource_servers_and_for_access_tokens_only(program: Program, person: Person):
    tokens = program.redeem(person.allow(program.authorization_url())["code"]).json()
    assert program.introspect(tokens["access_token"], secret="wrong").status_code == 401
    assert program.post("introspect", {"token": tokens["access_token"]}).status_code == 401
    assert program.introspect(tokens["refresh_token"]).json() == {"active": False}
    assert program.introspect("nothing").json() == {"active": False}


def test_revocation_ends_one_access_token_or_with_the_refresh_token_all(program: Program, person: Person):
    first = program.redeem(person.allow(program.authorization_url())["code"]).json()
    second = program.refresh(first["refresh_token"]).json()
    assert program.revoke(first["access_token"]).status_code == 200
    assert not program.is_active(first["access_token"])
    assert program.is_active(second["access_token"])
    other = Program.registered(program.http, issuer=program.issuer, resource=program.resource)
    assert other.revoke(second["refresh_token"]).status_code == 200
    assert program.is_active(second["access_token"])
    assert program.revoke(second["refresh_token"]).status_code == 200
    assert not program.is_active(second["access_token"])
    assert program.revoke("nothing").status_code == 200


def test_a_person_revokes_a_grant_on_the_page(program: Program, person: Person):
    tokens = program.redeem(person.allow(program.authorization_url())["code"]).json()
    page = person.open(f"{program.issuer}/grants")
    newest = page.text.index('name="grant" value="') + len('name="grant" value="')
    form = {"grant": page.text[newest:].split('"')[0]}
    with httpx2.Client() as stranger_http:
        stranger = Person(stranger_http, issuer=program.issuer)
        stranger.sign_in(stranger.open(f"{program.issuer}/grants"), username="seconduser", password="secondpass")
        stranger_http.post(f"{program.issuer}/grants/revoke", data=form)
    assert program.is_active(tokens["access_token"])
    assert person.http.post(f"{program.issuer}/grants/revoke", data=form).status_code == 303
    assert not program.is_active(tokens["access_token"])
    assert program.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_nobody_stays_signed_in_after_signing_out(program: Program, person: Person):
    person.sign_in(person.open(f"{program.issuer}/grants"))
    person.http.post(f"{program.issuer}/logout")
    assert 'name="password"' in person.open(f"{program.issuer}/grants").text
