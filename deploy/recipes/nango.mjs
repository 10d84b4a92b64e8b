// @ts-check
/**
 * Writes the grants that Nango keeps as JSON Lines, for `evergrant grants import`.
 *
 *     npm install @nangohq/node
 *     NANGO_API_KEY=… node nango.mjs hubspot=hubspot-main | evergrant grants import -
 *
 * Each argument names an integration of Nango's and the Evergrant client that its tokens were issued to. A value that an
 * address needs comes along as `--capture NAME=KEY`: KEY of the connection's `connection_config` becomes NAME.
 * `--subject end_user` names grants by the end user's id instead of the connection's. NANGO_HOST is for an instance of
 * your own. The key needs the right to read credentials.
 *
 * From the moment a connection is read here until Evergrant has it, and ever after, Nango must not refresh it any more.
 */
import process from 'node:process';
import { parseArgs } from 'node:util';

import { Nango } from '@nangohq/node';

/** @typedef {import('@nangohq/types').ApiPublicConnection} Listed */
/** @typedef {import('@nangohq/types').ApiPublicConnectionFull} Connection */

/** What Nango lists where no limit is asked for, and the most that it lists of one page. */
const FIRST = 10_000;
const PAGE = 2_000;
/** Connections read at once: each may be refreshed by Nango first. */
const AT_ONCE = 8;

const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
        subject: { type: 'string', default: 'connection' },
        capture: { type: 'string', multiple: true, default: [] }
    }
});

/**
 * @param {string[]} given
 * @returns {Map<string, string>}
 */
function pairs(given) {
    const found = new Map(given.map((pair) => /** @type {[string, string]} */ (pair.split(/=(.*)/s).slice(0, 2))));
    if (found.size < given.length || [...found.values()].some((value) => !value)) {
        fail(`each of these must be NAME=NAME, and name another: ${given.join(' ')}`);
    }
    return found;
}

/**
 * @param {string} why
 * @param {number} code
 * @returns {never}
 */
function fail(why, code = 2) {
    process.stderr.write(`nango.mjs: ${why}\n`);
    process.exit(code);
}

/**
 * Returns what there is to say of an error. What was asked and answered is not repeated: the key and tokens are in it.
 *
 * @param {unknown} error
 * @returns {number | string}
 */
function status(error) {
    return /** @type {{ response?: { status?: number } }} */ (error).response?.status ?? 'no answer';
}

/**
 * Lists every connection once. Older servers take no page, and list ten thousand at most.
 *
 * @param {Nango} nango
 * @returns {AsyncGenerator<Listed>}
 */
async function* connections(nango) {
    const seen = new Set();
    let { connections: found } = await nango.listConnections();
    for (let page = FIRST / PAGE; ; page += 1) {
        for (const listed of found) {
            if (!seen.has(listed.id)) {
                // One that is made meanwhile moves the others on.
                seen.add(listed.id);
                yield listed;
            }
        }
        if (found.length < (page === FIRST / PAGE ? FIRST : PAGE)) {
            return;
        }
        ({ connections: found } = await nango.listConnections(undefined, undefined, { limit: PAGE, page }));
    }
}

/**
 * Returns a connection as a line; what is not known is left out.
 *
 * @param {Connection} connection
 * @param {string} client
 * @param {Map<string, string>} captures
 * @returns {Record<string, unknown> | null}
 */
function line(connection, client, captures) {
    const { credentials } = connection;
    if (!('type' in credentials) || credentials.type !== 'OAUTH2' || !credentials.refresh_token) {
        return null;
    }
    const owner = connection.end_user;
    const captured = [...captures].map(([name, key]) => [name, connection.connection_config[key]]);
    return {
        client,
        subject: values.subject === 'end_user' ? owner?.id : connection.connection_id,
        refresh_token: credentials.refresh_token,
        access_token: credentials.access_token,
        access_expires_at: credentials.expires_at,
        scopes: credentials.raw.scope,
        email: owner?.email ?? undefined,
        captured: captured.length > 0 ? Object.fromEntries(captured) : undefined
    };
}

const clients = pairs(positionals);
const captures = pairs(values.capture);
const apiKey = process.env.NANGO_API_KEY;
if (clients.size === 0 || !apiKey || !['connection', 'end_user'].includes(values.subject)) {
    fail('usage: NANGO_API_KEY=… node nango.mjs INTEGRATION=CLIENT… [--subject end_user] [--capture NAME=KEY…]');
}
if (process.stdout.isTTY) {
    fail('the lines hold tokens: send them into a pipe or a file');
}
const nango = new Nango({ apiKey, ...(process.env.NANGO_HOST ? { host: process.env.NANGO_HOST } : {}) });

let written = 0;
let without = 0;
let failed = 0;

/** @param {Listed} listed */
async function write(listed) {
    const client = clients.get(listed.provider_config_key);
    if (client === undefined) {
        return;
    }
    try {
        const connection = await nango.getConnection(listed.provider_config_key, listed.connection_id, false, true);
        const found = line(connection, client, captures);
        if (found === null) {
            without += 1;
            return;
        }
        process.stdout.write(`${JSON.stringify(found)}\n`);
        written += 1;
    } catch (error) {
        process.stderr.write(`connection ${listed.connection_id} was not read (${status(error)})\n`);
        failed += 1;
    }
}

let batch = [];
try {
    for await (const listed of connections(nango)) {
        batch.push(write(listed));
        if (batch.length === AT_ONCE) {
            await Promise.all(batch);
            batch = [];
        }
    }
} catch (error) {
    fail(`the connections cannot be listed (${status(error)})`, 1);
}
await Promise.all(batch);
process.stderr.write(`${written} grants written, ${without} connections without a refresh token left out\n`);
process.exitCode = failed > 0 ? 1 : 0;
