// What the two Node SDKs see: reads calls as JSON lines on stdin, makes one after the other, writes what was seen as
// JSON lines. Each call: {sdk, url, kind, arguments, headers, take}; `take` closes the stream after so many items.
import { createInterface } from 'node:readline'
import anthropic from '@anthropic-ai/sdk'
import openai from 'openai'

const kinds = { openai, anthropic }

async function see ({ sdk, url, kind, arguments: given, headers, take }) {
  const client = new kinds[sdk]({ apiKey: 'sk-test', baseURL: url, maxRetries: 0, timeout: 20000 })
  const method = kind.split('.').reduce(([, owner], name) => [owner, owner[name]], [null, client])
  const items = []
  try {
    const promise = method[1].call(method[0], given, { headers })
    if (take === 'raw') {
      items.push(await (await promise.asResponse()).text())
    } else {
      const answer = await promise
      if (answer[Symbol.asyncIterator]) {
        for await (const item of answer) {
          items.push(item)
          if (items.length === take) break
        }
        if (answer.finalMessage) items.push(await answer.finalMessage())
      } else items.push(answer)
    }
    return { items, error: null }
  } catch (error) {
    return { items, error: `${error.constructor.name}: ${error.message}` }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await see(JSON.parse(line))) + '\n')
}
