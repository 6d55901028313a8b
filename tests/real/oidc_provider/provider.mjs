// A real OpenID provider (npm oidc-provider) for the tests: told what to be by one line of JSON on standard input, and gone with it.
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { createInterface } from "node:readline";
import { Provider } from "oidc-provider";

const lines = createInterface({ input: process.stdin });
lines.on("close", () => process.exit(0));
const told = JSON.parse((await lines[Symbol.asyncIterator]().next()).value);

const provider = new Provider(told.issuer, {
  clients: told.clients,
  pkce: { required: () => true },
  cookies: { keys: ["tests"] },
  features: {
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    mTLS: {
      enabled: told.tls !== null,
      certificateBoundAccessTokens: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate(),
    },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      // Whoever asks for a resource gets a JWT for it, everybody else an opaque token.
      getResourceServerInfo: (ctx, resource) => ({
        audience: resource,
        scope: told.scopes.join(" "),
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  scopes: ["openid", "offline_access", ...told.scopes],
  ttl: { ClientCredentials: told.seconds, AccessToken: told.seconds },
  ...told.more,
});
provider.on("server_error", (ctx, error) => console.error(error));

const answer = provider.callback();
const server =
  told.tls === null
    ? createServer(answer)
    : createTlsServer({ ...told.tls, requestCert: true, rejectUnauthorized: false }, answer);
server.listen(told.port, "127.0.0.1", () => console.log("ready"));
