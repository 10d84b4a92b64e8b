// @ts-check
/**
 * Stands in for Nango's API, as far as an export needs it. The shapes of its answers are those of Nango's own types, which
 * `tsc` holds them to; that Nango answers so has been read in its source, not tried.
 *
 * Reads from standard input how many connections there are of somebody else's, newest first, and the grants behind them:
 * `{"others": 10000, "grants": [{"id", "end_user", "email", "integration", "credentials", "config"}]}`. Prints its address.
 */
import { createServer } from 'node:http';
import process from 'node:process';
import { text } from 'node:stream/consumers';

/** @typedef {import('@nangohq/types').GetPublicConnections['Success']} List */
/** @typedef {import('@nangohq/types').GetPublicConnection['Success']} Connection */
/** @typedef {{ id: string, end_user: string, email: string, integration: string, config: Record<string, string>,
 *     credentials: Connection['credentials'] | null }} Grant */

/** @type {{ apiKey: string, others: number, grants: Grant[] }} */
const { apiKey, others, grants } = JSON.parse(await text(process.stdin));
const CREATED = '2026-01-02T03:04:05.678+00:00';
const MOST = 10_000;

/** @type {List['connections']} */
const listed = [
    ...Array.from({ length: others }, (_, number) => entry(`other-${number}`, 'of-somebody-else', null)),
    ...grants.map((grant) => entry(grant.id, grant.integration, grant))
].map((connection, place) => ({ ...connection, id: place + 1 }));

/**
 * @param {string} connectionId
 * @param {string} integration
 * @param {Grant | null} grant
 * @returns {List['connections'][number]}
 */
function entry(connectionId, integration, grant) {
    const organization = null;
    const owner = grant && { id: grant.end_user, display_name: null, email: grant.email, tags: null, organization };
    return {
        id: 0,
        connection_id: connectionId,
        provider_config_key: integration,
        provider: 'acme',
        created: CREATED,
        metadata: null,
        errors: [],
        end_user: owner,
        tags: {}
    };
}

/**
 * @param {URL} url
 * @returns {List | Connection | null}
 */
function answer(url) {
    const [, root, id] = url.pathname.split('/').map(decodeURIComponent);
    if (root !== 'connections') {
        return null;
    }
    if (id === undefined) {
        const limit = Number(url.searchParams.get('limit') ?? MOST);
        const start = Number(url.searchParams.get('page') ?? 0) * limit;
        return { connections: listed.slice(start, start + limit) };
    }
    const found = listed.find(
        ({ connection_id, provider_config_key }) =>
            connection_id === id && provider_config_key === url.searchParams.get('provider_config_key')
    );
    const grant = grants.find((one) => one.id === id);
    if (found === undefined || grant === undefined || grant.credentials === null) {
        return null;
    }
    const { created, ...same } = found;
    const { credentials } = grant;
    if (url.searchParams.get('refresh_token') !== 'true' && 'refresh_token' in credentials) {
        delete credentials.refresh_token;
    }
    return {
        ...same,
        created_at: created,
        updated_at: created,
        last_fetched_at: null,
        connection_config: grant.config,
        webhook_url_override: null,
        credentials
    };
}

const server = createServer((request, response) => {
    const found = answer(new URL(request.url ?? '/', 'http://localhost'));
    const status = request.headers.authorization !== `Bearer ${apiKey}` ? 401 : found === null ? 404 : 200;
    response.writeHead(status, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(status === 200 ? found : { error: { code: 'not_found' } }));
});
server.listen(0, '127.0.0.1', () => {
    const address = server.address();
    process.stdout.write(`http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}\n`);
});
