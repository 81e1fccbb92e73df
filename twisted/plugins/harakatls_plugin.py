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
relay = PluginFactory("relay", "harakatls.plugins.relay:load")
host_list = PluginFactory("rcpt_to.in_host_list", "harakatls.plugins.host_list:load")
discard = PluginFactory("queue/discard", "harakatls.plugins.discard:load")
maildir = PluginFactory("queue/maildir", "harakatls.plugins.maildir:load")
spool = PluginFactory("queue/spool", "harakatls.plugins.spool:load")
