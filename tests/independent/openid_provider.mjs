// npm oidc-provider as the OpenID provider by which people sign in here. Its one argument is JSON:
// {port, redirectUri, clientId, clientSecret}.
import Provider from '../npm/node_modules/oidc-provider/lib/index.js';

const options = JSON.parse(process.argv[2]);
const provider = new Provider(`http://127.0.0.1:${options.port}`, {
  clients: [{
    client_id: options.clientId,
    client_secret: options.clientSecret,
    redirect_uris: [options.redirectUri],
    token_endpoint_auth_method: 'client_secret_post',
  }],
  claims: { openid: ['sub'], profile: ['preferred_username'], email: ['email', 'email_verified'] },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: id }) }),
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true } },
});
provider.on('server_error', (ctx, error) => console.error(error));
for (const event of ['authorization.error', 'grant.error', 'userinfo.error']) {
  provider.on(event, (ctx, error) => console.error(event, error.error, error.error_description, error.error_detail));
}
provider.listen(options.port, '127.0.0.1');
