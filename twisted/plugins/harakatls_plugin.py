"""What harakatls announces to twisted.plugin: the twistd command and the shipped plugins."""

from twisted.application.service import ServiceMaker

from harakatls.plugins.factory import PluginFactory

harakatls = ServiceMaker(
    "harakatls",
    "harakatls.service.maker",
    "An SMTP server with the best TLS there is.",
    "harakatls",
)

tls = PluginFactory("tls", "harakatls.plugins.tls:load")
lookup_rdns = PluginFactory("lookup_rdns", "harakatls.plugins.lookup_rdns:load")
xclient = PluginFactory("xclient", "harakatls.plugins.xclient:load")
aliases = PluginFactory("aliases", "harakatls.plugins.aliases:load")
signatures = PluginFactory("data.signatures", "harakatls.plugins.signatures:load")
credential_leaks = PluginFactory(
    "prevent_credential_leaks", "harakatls.plugins.credential_leaks:load"
)
relay = PluginFactory("relay", "harakatls.plugins.relay:load")
limit = PluginFactory("limit", "harakatls.plugins.limit:load")
auth_flat_file = PluginFactory("auth/flat_file", "harakatls.plugins.auth_flat_file:load")
host_list = PluginFactory("rcpt_to.in_host_list", "harakatls.plugins.host_list:load")
smtp_forward = PluginFactory("queue/smtp_forward", "harakatls.plugins.smtp_forward:load")
smtp_proxy = PluginFactory("queue/smtp_proxy", "harakatls.plugins.smtp_proxy:load")
auth_proxy = PluginFactory("auth/auth_proxy", "harakatls.plugins.auth_proxy:load")
auth_bridge = PluginFactory("auth/auth_bridge", "harakatls.plugins.auth_bridge:load")
smtp_bridge = PluginFactory("queue/smtp_bridge", "harakatls.plugins.smtp_bridge:load")
lmtp = PluginFactory("queue/lmtp", "harakatls.plugins.lmtp:load")
deliver = PluginFactory("queue/deliver", "harakatls.plugins.deliver:load")
quarantine = PluginFactory("queue/quarantine", "harakatls.plugins.quarantine:load")
queue_test = PluginFactory("queue/test", "harakatls.plugins.queue_test:load")
discard = PluginFactory("queue/discard", "harakatls.plugins.discard:load")
maildir = PluginFactory("queue/maildir", "harakatls.plugins.maildir:load")
spool = PluginFactory("queue/spool", "harakatls.plugins.spool:load")
toobusy = PluginFactory("toobusy", "harakatls.plugins.toobusy:load")
tarpit = PluginFactory("tarpit", "harakatls.plugins.tarpit:load")
delay_deny = PluginFactory("delay_deny", "harakatls.plugins.delay_deny:load")
max_unrecognized = PluginFactory(
    "max_unrecognized_commands", "harakatls.plugins.max_unrecognized:load"
)
max_count = PluginFactory("rcpt_to.max_count", "harakatls.plugins.max_count:load")
status = PluginFactory("status", "harakatls.plugins.status:load")
process_title = PluginFactory("process_title", "harakatls.plugins.process_title:load")
block_me = PluginFactory("block_me", "harakatls.plugins.block_me:load")
record_envelope = PluginFactory(
    "record_envelope_addresses", "harakatls.plugins.record_envelope:load"
)
