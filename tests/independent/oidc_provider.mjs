// npm oidc-provider as the authorization server of the Notes example. Its one argument is JSON:
// {port, redirectUri, resource, scopes, accessTokenSeconds, metadataDocument: {clientId, servedAt}, clients}.
import Provider from '../npm/node_modules/oidc-provider/lib/index.js';

const options = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${options.port}`;

const provider = new Provider(issuer, {
  clients: options.clients,
  // The scopes of the resource are not among them: a registration that names one is refused.
  scopes: ['openid', 'offline_access'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  // A token that is revoked ends its grant: this is how the tests take a grant back. RFC 7009 §2.1.
  revokeGrantPolicy: () => true,
  features: {
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    registration: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => options.resource,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: options.scopes.join(' '),
        audience: options.resource,
        accessTokenFormat: 'opaque',
        accessTokenTTL: options.accessTokenSeconds,
      }),
    },
    clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
  },
  // A metadata document has to be at an https address. That of this test is a name that only exists here: what the
  // product serves on loopback is what would be served there.
  fetch: (url, settings) => {
    if (String(url) !== options.metadataDocument.clientId) throw new TypeError('nothing else is fetched');
    return fetch(options.metadataDocument.servedAt, { ...settings, dispatcher: undefined });
  },
});

provider.on('server_error', (ctx, error) => console.error(error));
for (const event of ['authorization.error', 'grant.error', 'registration_create.error', 'introspection.error']) {
  provider.on(event, (ctx, error) => console.error(event, error.error, error.error_description, error.error_detail));
}
provider.listen(options.port, '127.0.0.1');
