"""The requirement manifest: what the MCP authorization pages ask, by the ids of our checklist, and the test marker.

A test that proves a requirement is marked `@requirement("A-14")`. `test_requirements.py` holds both sides together.
Unless a year is given, pages are those of revision 2026-07-28.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pytest

PAGES: Final = {
    "AZ": "basic/authorization",
    "ASD": "basic/authorization/authorization-server-discovery",
    "CR": "basic/authorization/client-registration",
    "SC": "basic/authorization/security-considerations",
    "SBP": "docs/tutorials/security/security_best_practices",
    "EL": "client/elicitation",
    "MR": "patterns/mrtr",
    "OAUTH": "OAuth 2.1 draft 13",
    "RFC6749": "RFC 6749 §6 and OAuth 2.1 §4.3",
    "RFC9728": "RFC 9728 §3.3",
    "RFCS": "the RFCs that the pages cite",
    "2025": "basic/authorization of revision 2025-03-26",
    "AS": "security notes, part A5: the authorization server",
    "A6": "security notes, part A6: the gateway",
    "BA": "basic",
    "CA": "server/utilities/caching",
    "CN": "basic/patterns/cancellation",
    "DI": "server/discover",
    "K": "security notes, part A7: keys",
    "LEGACY": "basic/transports of the revisions up to 2025-11-25",
    "SH": "basic/transports/streamable-http",
    "SU": "basic/patterns/subscriptions",
    "VE": "basic/versioning",
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement.

    Attributes:
        page: Key of `PAGES`: where it is said.
        sentence: What has to hold, in our own words.
        untestable: Why no test of ours can prove it.
    """

    page: str
    sentence: str
    untestable: str = ""


_DISCOVERY: Final = {
    "D-00": Requirement(
        "AZ", "Servers may go without authorization; stdio servers take credentials from outside OAuth."
    ),
    "D-01": Requirement("AZ", "A protected server publishes protected-resource metadata."),
    "D-02": Requirement("ASD", "That metadata names at least one authorization server."),
    "D-03": Requirement("ASD", "It is found by the 401 challenge or at a well-known address; ours offers both."),
    "D-04": Requirement("AZ", "The client finds the authorization server through protected-resource metadata."),
    "D-05": Requirement("ASD", "The challenge's address goes first, else the path-inserted one, else the root."),
    "D-06": Requirement("ASD", "The client reads WWW-Authenticate and reacts to a 401."),
    "D-07": Requirement(
        "ASD", "Of several authorization servers the client picks one; an administrator can pick instead."
    ),
    "D-08": Requirement("AZ", "An authorization server publishes RFC 8414 or OpenID metadata."),
    "D-09": Requirement("AZ", "The client reads both kinds of metadata."),
    "D-10": Requirement("ASD", "An issuer with a path has three addresses in a fixed order, and never the bare root."),
    "D-11": Requirement("ASD", "An issuer without a path has two addresses, the OAuth one first."),
    "D-12": Requirement("ASD", "Metadata whose issuer differs from the one asked for, by any character, is not used."),
    "D-13": Requirement("ASD", "No well-known suffix of MCP's own is asked for."),
    "D-14": Requirement("RFC9728", "Metadata of a resource that does not fit the server's URL stops the flow."),
    "D-15": Requirement("ASD", "Registrations and tokens are kept apart by authorization server."),
}

_REGISTRATION: Final = {
    "R-01": Requirement("AZ", "The client id comes from a metadata document, by hand, or by dynamic registration."),
    "R-02": Requirement("CR", "The order is: by hand, metadata document, dynamic, else tell an administrator."),
    "R-03": Requirement("AZ", "Client ID Metadata Documents are supported."),
    "R-04": Requirement("AZ", "Dynamic registration remains for servers without metadata documents."),
    "R-05": Requirement("CR", "Our metadata document lies at an https address with a path."),
    "R-06": Requirement("CR", "It holds its own address as client_id, a name, and the redirect URIs."),
    "R-07": Requirement("CR", "It may announce private_key_jwt with the address of our keys."),
    "R-08": Requirement("CR", "A client id that is an address is fetched."),
    "R-09": Requirement("CR", "The client_id inside the document equals its address."),
    "R-10": Requirement("CR", "Documents are cached as their HTTP headers say, for a day at most."),
    "R-11": Requirement("CR", "The redirect URI of a request is one of the document's."),
    "R-12": Requirement("CR", "The document is valid JSON with the required members."),
    "R-13": Requirement("CR", "Fetching documents is guarded against SSRF, size, time and redirects."),
    "R-14": Requirement("CR", "Support for metadata documents is announced by a flag, and the client looks at it."),
    "R-15": Requirement("CR", "Client credentials entered by hand are accepted, for one issuer each."),
    "R-16": Requirement("CR", "Dynamic registration says application_type: web when hosted, native on localhost."),
    "R-17": Requirement("CR", "A refusal over redirect URIs is told in words that help."),
    "R-18": Requirement("CR", "Client credentials are stored under the issuer that gave them."),
    "R-19": Requirement("CR", "They are never used at another issuer; there the client registers anew."),
    "R-20": Requirement("CR", "Where a client entered by hand meets another issuer, an error is shown."),
    "R-21": Requirement("CR", "A metadata document needs no new registration when the issuer changes."),
    "R-22": Requirement("AZ", "Client metadata lists the refresh_token grant."),
    "R-23": Requirement("SC", "Consent for a document client shows the redirect host and warns of localhost."),
}

_AUTHORIZATION: Final = {
    "A-01": Requirement("AZ", "OAuth 2.1 is followed for confidential and public clients."),
    "A-02": Requirement("SC", "PKCE is used in every flow."),
    "A-03": Requirement("SC", "Its method is S256."),
    "A-04": Requirement("SC", "Without S256 in code_challenge_methods_supported the flow is refused."),
    "A-05": Requirement("SC", "That member is published in OpenID metadata too."),
    "A-06": Requirement("AZ", "resource goes into authorization and token requests, known to the server or not."),
    "A-07": Requirement("AZ", "The resource is the most specific address, without a fragment or an idle slash."),
    "A-08": Requirement("AZ", "A resource that metadata published is sent character by character."),
    "A-09": Requirement("SC", "state is sent, and an answer with another state is thrown away."),
    "A-10": Requirement("AZ", "The validated issuer is stored with state and verifier before the redirect."),
    "A-11": Requirement("AZ", "Authorization responses carry iss, errors too."),
    "A-12": Requirement("AZ", "Sending iss is announced, and its value is the metadata's issuer."),
    "A-13": Requirement(
        "AZ", "iss is checked before the code leaves: compare when present, refuse when promised and absent."
    ),
    "A-14": Requirement("AZ", "The comparison of iss normalises nothing."),
    "A-15": Requirement("AZ", "On a mismatch the error parameters are neither acted on nor shown."),
    "A-16": Requirement("SC", "The redirect URI is the one registered with the authorization server."),
    "A-17": Requirement("SC", "Redirect URIs are compared exactly."),
    "A-18": Requirement("SC", "Redirect URIs are https or localhost."),
    "A-19": Requirement("SC", "All endpoints are served over https."),
    "A-20": Requirement("SC", "Browsers are not sent to redirect URIs that are not trusted."),
    "A-21": Requirement("SBP", "An authorization URL is https, or http on loopback, and never reaches a shell."),
    "A-22": Requirement("SBP", "Our pages carry a Content-Security-Policy."),
}

_SCOPES: Final = {
    "S-01": Requirement("AZ", "The 401 challenge names the scope."),
    "S-02": Requirement("AZ", "The challenge's scopes decide, whatever scopes_supported lists."),
    "S-03": Requirement("AZ", "First choice of scopes: the challenge's, else all of the metadata's, else none sent."),
    "S-04": Requirement("AZ", "Challenges are built consistently."),
    "S-05": Requirement("AZ", "Too little scope is a 403 with insufficient_scope, scope and resource_metadata."),
    "S-06": Requirement("AZ", "One challenge names all scopes of the operation."),
    "S-07": Requirement("AZ", "On insufficient_scope a client that acts for a person steps up."),
    "S-08": Requirement("AZ", "A step-up asks for what was asked before together with what is challenged."),
    "S-09": Requirement("AZ", "Step-ups are few, then the failure is final."),
    "S-10": Requirement("AZ", "A broad scope satisfies the narrow ones it implies."),
    "S-11": Requirement("AZ", "offline_access is in neither the challenge nor the protected-resource metadata."),
    "S-12": Requirement("AZ", "offline_access is asked for only where the authorization server lists it."),
    "S-13": Requirement("SBP", "The published scopes are a minimal baseline without wildcards."),
}

_TOKENS: Final = {
    "T-01": Requirement("AZ", "The token travels in the Authorization header of every request, never in the query."),
    "T-02": Requirement("AZ", "A server receives only tokens that its own authorization server issued."),
    "T-03": Requirement("AZ", "Tokens are validated before the request is processed."),
    "T-04": Requirement("AZ", "Only tokens issued for this resource are accepted."),
    "T-05": Requirement("AZ", "No other token is accepted or passed on."),
    "T-06": Requirement("SC", "The inbound token is not forwarded upstream."),
    "T-07": Requirement("AZ", "401 for tokens, 403 for scopes, 400 for malformed requests."),
    "T-08": Requirement("SC", "Tokens are encrypted at rest and absent from logs."),
    "T-09": Requirement("SC", "Access tokens are short-lived."),
    "T-10": Requirement("SC", "Refresh tokens of public clients rotate."),
    "T-11": Requirement("AZ", "Refresh tokens stay secret, and a response without one is no error."),
    "T-12": Requirement(
        "OAUTH", "The client authenticates at the token endpoint by a method that the server supports."
    ),
}

_OUTBOUND_AND_LINKS: Final = {
    "U-01": Requirement("SBP", "Every fetched address is guarded against SSRF."),
    "U-02": Requirement("SBP", "https only; http needs an explicit permission."),
    "U-03": Requirement("SBP", "Private, loopback, link-local and unique-local addresses are refused."),
    "U-04": Requirement("SBP", "Every redirect hop passes the same checks."),
    "U-05": Requirement("SBP", "The resolved address is pinned against DNS rebinding."),
    "H-01": Requirement("SBP", "A session id or state handle is never authentication."),
    "H-02": Requirement("SBP", "Handles cannot be guessed, and another principal's handle is refused."),
    "E-01": Requirement("EL", "Third-party sign-in is asked for by URL-mode elicitation only."),
    "E-02": Requirement("EL", "Only declared kinds of elicitation are sent."),
    "E-03": Requirement("EL", "The URL holds no secret and no identity, and is not authenticated in advance."),
    "E-04": Requirement("EL", "The URL is https."),
    "E-05": Requirement("EL", "An elicitation is bound to the identity of the verified token."),
    "E-06": Requirement("EL", "Whoever opens a connect link is the person it was made for."),
    "E-07": Requirement("EL", "The same person starts and finishes the flow."),
    "E-08": Requirement(
        "EL",
        "A client shows the full URL of an elicitation, asks, and does not prefetch.",
        untestable="our client declares no elicitation, so a server may not send one",
    ),
    "E-09": Requirement("MR", "requestState is authenticated where it influences anything."),
}

_REFRESH: Final = {
    "X-12": Requirement(
        "RFC6749", "invalid_grant at refresh means reconnect; trouble on the way keeps the refresh token."
    ),
    "X-13": Requirement(
        "RFC6749", "A refresh sends resource, never widens scope, and keeps the old token if none comes."
    ),
}

_CONSENT: Final = {
    "P-01": Requirement("SC", "A person consents to each client before anybody is sent to a third party."),
    "P-02": Requirement("SBP", "What each person allowed which client is kept, and looked at before going on."),
    "P-03": Requirement("SBP", "The consent page names the client."),
    "P-04": Requirement("SBP", "The consent page lists the scopes."),
    "P-05": Requirement("SBP", "The consent page shows where the answer is sent."),
    "P-06": Requirement("SBP", "The consent page has CSRF protection."),
    "P-07": Requirement("SBP", "The consent page cannot be framed."),
    "P-08": Requirement("SBP", "The consent is bound to a cookie that only this site can set, and to the client."),
    "P-09": Requirement("SBP", "The redirect URI is compared exactly."),
    "P-10": Requirement("SBP", "Each request to a third party has a fresh state."),
    "P-11": Requirement("SBP", "That state is stored and its cookie set only after the consent."),
    "P-12": Requirement("SBP", "What comes back is refused in any other browser."),
    "P-13": Requirement("SBP", "That state works once and for a short time."),
    "P-14": Requirement("2025", "Our tokens live no longer than the third party's grant they stand for."),
}

_OF_THE_RFCS: Final = {
    "X-01": Requirement("RFCS", "Codes work once, shortly, for what they were made for; a replay ends all."),
    "X-02": Requirement("RFCS", "Token responses are JSON that nobody may keep."),
    "X-03": Requirement("RFCS", "Only codes, only S256; loopback redirect URIs may vary in the port alone."),
    "X-04": Requirement("RFCS", "Refresh tokens rotate; a used one ends the family, but for a short grace."),
    "X-05": Requirement("RFCS", "An unknown resource is invalid_target, and a token is for one resource."),
    "X-06": Requirement("RFCS", "Access tokens are JWTs of RFC 9068, checked as RFC 8725 says."),
    "X-07": Requirement("RFCS", "Introspection knows its callers and tells strangers nothing; both are announced."),
    "X-08": Requirement("RFCS", "Protected-resource metadata names exactly the address that clients use."),
    "X-09": Requirement("RFCS", "Errors travel in redirects only after client and redirect URI are known."),
    "X-10": Requirement("RFCS", "Registration checks redirect schemes, limits, expires, and manages by token."),
    "X-11": Requirement("RFCS", "Metadata and token endpoint can be read across origins, the authorization not."),
}

_OF_THE_SECURITY_NOTES: Final = {
    "AS01": Requirement("AS", "No redirect URI but the registered one is accepted, and errors about it are pages."),
    "AS02": Requirement("AS", "What anybody may register is limited in form, size, number and time."),
    "AS03": Requirement("AS", "A client's name cannot hide where it sends people."),
    "AS04": Requirement("AS", "Metadata documents are fetched guarded, after sign-in, and watched for changes."),
    "AS05": Requirement("AS", "PKCE with S256 is required of every client."),
    "AS06": Requirement("AS", "A code is redeemed once; a second time ends what came of it."),
    "AS07": Requirement("AS", "A refresh token used twice is told from theft, and theft ends the family."),
    "AS08": Requirement("AS", "Our own consent comes before any third party's sign-in, in one browser."),
    "AS09": Requirement("AS", "No page of another site gets a code without a person's click."),
    "AS10": Requirement("AS", "Consent cannot be altered, taken over or lost between two tabs."),
    "AS11": Requirement("AS", "A token is for exactly one resource of ours."),
    "AS12": Requirement("AS", "Forged tokens are refused without a request to anybody."),
    "AS13": Requirement("AS", "Introspection tells only the token's own audience, and no stale news."),
    "AS14": Requirement("AS", "Revoking one token of a grant ends all of it, for its own client or person."),
    "AS15": Requirement("AS", "Nobody is redirected to an unverified client without a click."),
    "AS16": Requirement("AS", "Grants and modes of the past are refused and not announced."),
    "AS17": Requirement("AS", "The token endpoint takes forms only, and survives anything."),
    "AS18": Requirement("AS", "Metadata is served for our own issuer only; iss goes with every answer."),
    "AS19": Requirement("AS", "No client id can be taken for a person's subject."),
    "K05": Requirement("K", "A token of another environment with the same keys is no token here."),
}

_OF_THE_TRANSPORT: Final = {
    "G-01": Requirement("SH", "Each server has one address that takes POST, and GET and DELETE of older clients."),
    "G-02": Requirement("SH", "A page of a foreign origin gets 403; allowed ones can read what they need."),
    "G-03": Requirement("AZ", "Each request is authenticated, whatever its method or era."),
    "G-04": Requirement("SC", "No inbound credential or hop-by-hop header goes to the server."),
    "G-05": Requirement("AZ", "No refusal or challenge of the server's own comes back; one renewal, one retry."),
    "G-06": Requirement("SH", "Headers for arguments of tools are forwarded untouched."),
    "G-07": Requirement("SH", "Headers that repeat the body have to agree with it."),
    "G-08": Requirement("SH", "Those headers count only from 2026-07-28 on."),
    "G-09": Requirement("SH", "A server's 400 and 404 are relayed to the byte; failures of ours are 5xx."),
    "G-10": Requirement("BA", "Errors carry the request's id and defined codes."),
    "G-11": Requirement("SH", "The headers of MCP pass in both directions."),
    "G-12": Requirement("LEGACY", "A session id belongs to the person who began it and proves nothing."),
    "G-13": Requirement("LEGACY", "A session ends with the connection that it was begun with."),
    "G-14": Requirement("BA", "From 2026-07-28 on nothing is remembered between requests."),
    "G-15": Requirement("VE", "The era of a server is found out by asking it the modern way first."),
    "G-16": Requirement("VE", "Eras are passed through, not translated."),
    "G-17": Requirement("CN", "A modern client that leaves cancels at the server; an older one cancels nothing."),
    "G-18": Requirement("SH", "Events pass unbuffered and unchanged; streams that stay open may be quiet."),
    "G-19": Requirement("SU", "A subscription is a stream of one client alone."),
    "G-20": Requirement("CA", "No answer to one access token is given to another."),
    "G-21": Requirement("LEGACY", "Batches exist in 2025-03-26 only."),
    "G-22": Requirement("MR", "A server's requestState passes unread; ours is sealed."),
    "G-23": Requirement("DI", "No capability is announced that the server lacks."),
    "G-24": Requirement("A6", "A stream ends with the access token and the rights that it was opened with."),
    "G-25": Requirement("SH", "Calls of our own follow the rules for clients."),
}

_OF_THE_GATEWAY: Final = {
    "G01": Requirement("A6", "What goes out is made of a list of allowed headers and the person's own upstream token."),
    "G02": Requirement("A6", "A foreign, expired or missing token is refused, and the server hears nothing."),
    "G03": Requirement("A6", "No challenge of a server reaches a client."),
    "G04": Requirement("A6", "A request that two readers may read differently is refused, and the connection closed."),
    "G05": Requirement("A6", "What comes back is made of a list of allowed headers; no redirect, no page."),
    "G06": Requirement("A6", "No address but the exact one reaches a server, and no query does."),
    "G07": Requirement("A6", "Neither a foreign origin nor a foreign host is served."),
    "G08": Requirement("A6", "A session of somebody else is an unknown session."),
    "G09": Requirement("A6", "No answer reaches another client than the one who asked."),
    "G10": Requirement("A6", "What header and body or two parsers could read differently is refused."),
    "G11": Requirement("A6", "Our requestState is bound to person, program and request, and expires."),
    "G12": Requirement("A6", "Links to connect are ours, tell nothing of the person, and work for them alone."),
    "G13": Requirement("A6", "Streams are limited in number, life, quiet and size, and leave nothing behind."),
    "G14": Requirement("A6", "A right that ends takes open streams with it."),
    "G15": Requirement("A6", "A tool whose description changes is reported, and blocked where that is wanted."),
    "G16": Requirement("A6", "Answers are bounded in size and time, and never unpacked."),
}

REQUIREMENTS: Final[dict[str, Requirement]] = {
    **_DISCOVERY,
    **_REGISTRATION,
    **_AUTHORIZATION,
    **_SCOPES,
    **_TOKENS,
    **_OUTBOUND_AND_LINKS,
    **_REFRESH,
    **_CONSENT,
    **_OF_THE_RFCS,
    **_OF_THE_SECURITY_NOTES,
    **_OF_THE_TRANSPORT,
    **_OF_THE_GATEWAY,
}


def requirement(*ids: str) -> pytest.MarkDecorator:
    """Mark a test as the proof of these requirements; an id that is not in the manifest is refused."""
    unknown = [one for one in ids if one not in REQUIREMENTS]
    if unknown or not ids:
        raise ValueError(f"not in the manifest: {', '.join(unknown) or 'no id given'}")
    return pytest.mark.requirement(*ids)
