'use strict'
// Makes Node's global fetch use HTTPS_PROXY where Node itself does not: before 22.21 and 24.0 there is no
// NODE_USE_ENV_PROXY, and fetch (so openai-node 5+, the Anthropic SDK, the Vercel AI SDK) goes straight out.
// Built-ins only: the Agent class is taken from the fetch that Node bundles and given a `connect` that opens a tunnel.
// A request that brings its own dispatcher is left alone; the http and https modules are, too.

const [major, minor] = process.versions.node.split('.').map(Number)
const proxy = process.env.HTTPS_PROXY || process.env.https_proxy
const nodeDoesIt = major >= 24 || (major === 22 && minor >= 21)

if (proxy && !nodeDoesIt && typeof globalThis.fetch === 'function') {
  const fetch = globalThis.fetch
  let installed = false
  globalThis.fetch = function (...args) {
    if (!installed) {
      installed = true
      install(fetch)
    }
    return fetch.apply(this, args)
  }
}

function install (fetch) {
  const slot = Symbol.for('undici.globalDispatcher.1')
  fetch('data:,').catch(() => {}) // loads the bundled undici, which fills the slot
  const Agent = globalThis[slot]?.constructor
  if (Agent?.name === 'Agent') globalThis[slot] = new Agent({ connect })
}

function direct (hostname) {
  const exceptions = (process.env.NO_PROXY || process.env.no_proxy || '').toLowerCase().split(',')
  return exceptions.map((name) => name.trim().replace(/^\*?\./, '')).some(
    (name) => name && (hostname === name || hostname.endsWith('.' + name)))
}

function connect ({ hostname, port, protocol, servername }, callback) {
  const host = hostname.replace(/^\[|\]$/g, '')
  const toPort = port || (protocol === 'https:' ? 443 : 80)
  const finish = (socket) => {
    if (protocol !== 'https:') return callback(null, socket)
    const secure = require('node:tls').connect({
      socket, host, servername: servername || undefined, ALPNProtocols: ['http/1.1']
    })
    secure.once('secureConnect', () => callback(null, secure)).once('error', callback)
  }
  if (direct(host.toLowerCase())) {
    const socket = require('node:net').connect({ host, port: toPort })
    socket.once('connect', () => finish(socket)).once('error', callback)
    return
  }
  const via = new URL(proxy)
  const target = `${hostname}:${toPort}`
  const request = require('node:http').request({
    host: via.hostname, port: via.port, method: 'CONNECT', path: target, headers: { host: target }, agent: false
  })
  request.once('connect', (response, socket) => {
    if (response.statusCode === 200) return finish(socket)
    socket.destroy()
    callback(new Error(`the proxy answered ${response.statusCode} to CONNECT ${target}`))
  })
  request.once('error', callback).end()
}
