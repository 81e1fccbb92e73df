'use strict'
// Send one message with nodemailer. The only argument is JSON: host, port, secure (TLS from the
// start), ca (a file), servername, from, to, raw; where wanted requiretls (RFC 8689), and for a login
// auth (user and pass) and authMethod.

const fs = require('node:fs')
const nodemailer = require('nodemailer')

const task = JSON.parse(process.argv[2])
const transport = nodemailer.createTransport({
    host: task.host,
    port: task.port,
    secure: task.secure,
    requireTLS: !task.secure,
    name: 'client.test',
    auth: task.auth,
    authMethod: task.authMethod,
    tls: { ca: fs.readFileSync(task.ca), servername: task.servername, rejectUnauthorized: true },
    connectionTimeout: 20000,
    greetingTimeout: 20000,
    socketTimeout: 20000,
})

transport
    .sendMail({
        envelope: { from: task.from, to: [task.to] },
        raw: task.raw,
        requireTLSExtensionEnabled: Boolean(task.requiretls),
    })
    .then((info) => {
        console.log(info.response)
        transport.close()
    })
    .catch((error) => {
        console.error(error.message)
        process.exitCode = 1
    })
