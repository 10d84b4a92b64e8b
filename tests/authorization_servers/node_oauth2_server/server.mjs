// Starts an application around @node-oauth/oauth2-server on a free loopback port. Its configuration:
//
//   clients   client metadata as RFC 7591 writes it
//
// The library answers at /authorize, /token and /me; the page with the login, and /withdraw, where an owner ends what
// they allowed, are what it leaves to the application.
import OAuth2Server from '@node-oauth/oauth2-server';

import { serve } from '../child.mjs';
import { Model } from './model.mjs';

const { OAuthError, Request, Response } = OAuth2Server;

const LOGIN_AND_CONSENT = `<!doctype html><title>Allow?</title><form method="post">
  <input name="login"><input name="password" type="password"><input type="submit" value="Sign in and allow"></form>`;

async function read(incoming, issuer) {
  const parts = [];
  for await (const part of incoming) parts.push(part);
  const url = new URL(incoming.url, issuer);
  const { headers, method } = incoming;
  return {
    path: url.pathname,
    request: new Request({
      headers,
      method,
      query: Object.fromEntries(url.searchParams),
      body: Object.fromEntries(new URLSearchParams(Buffer.concat(parts).toString())),
    }),
  };
}

function write(outgoing, { status, headers, body }) {
  const isPage = typeof body === 'string';
  outgoing.writeHead(status, { 'content-type': isPage ? 'text/html' : 'application/json', ...headers });
  outgoing.end(isPage ? body : JSON.stringify(body));
}

function routes(oauth, model) {
  return {
    'GET /authorize': (request, response) => {
      response.body = LOGIN_AND_CONSENT;
    },
    'POST /authorize': (request, response) =>
      oauth.authorize(request, response, { authenticateHandler: { handle: () => ({ id: request.body.login }) } }),
    'POST /token': (request, response) => oauth.token(request, response),
    'GET /me': async (request, response) => {
      const { user } = await oauth.authenticate(request, response);
      response.body = { sub: user.id };
    },
    'POST /withdraw': (request) => {
      model.revokeToken({ refreshToken: request.body.token });
    },
  };
}

await serve((wanted, issuer) => {
  const model = new Model(wanted.clients);
  const known = routes(new OAuth2Server({ model }), model);
  return async (incoming, outgoing) => {
    const { path, request } = await read(incoming, issuer);
    const response = new Response();
    try {
      const route = known[`${request.method} ${path}`];
      if (route) await route(request, response);
      else response.status = 404;
    } catch (error) {
      console.error(`${request.method} ${path}:`, error);
      // At the token endpoint the library has filled the answer in already.
      if (response.status < 400) {
        response.status = error instanceof OAuthError ? error.code : 500;
        response.body = { error: error.name };
      }
    }
    write(outgoing, response);
  };
});
