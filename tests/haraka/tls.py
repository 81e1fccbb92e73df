"""Checks 1 to 46: TLS."""

from tests.haraka.checks import Check

IN = "haraka.test_tls_inbound"
OUT = "haraka.test_tls_outbound"
HOSTS = "tls.test_document_hosts"
OPTIONS = "tls.test_document_options"

TLS = (
    # -- tls.ini
    Check(
        1,
        "without tls.ini: the defaults",
        (f"{IN}.SettingsTests.test_without_file", "tls.test_settings.DefaultTests.test_no_file"),
    ),
    Check(
        2,
        "values of the main section as they are written, ports as integers",
        (f"{IN}.SettingsTests.test_main_values",),
    ),
    Check(3, "both entries of [no_tls_hosts]", (f"{IN}.SettingsTests.test_no_tls_hosts",)),
    Check(
        4,
        "[outbound] has its own values and lists",
        (f"{IN}.SettingsTests.test_outbound", "tls.test_document_sections.OutboundSectionTests"),
        ours="requestCert and honorCipherOrder are about servers; where [outbound] has them it is "
        "told that they do nothing",
    ),
    Check(5, "lists that are not set are empty lists", (f"{IN}.SettingsTests.test_unset_lists",)),
    Check(
        6,
        "who changes what was loaded changes it for nobody else",
        (f"{IN}.SettingsTests.test_independent",),
        ours="nobody can change it",
    ),
    Check(
        7,
        "enableOCSPStapling is requestOCSP",
        (
            f"{IN}.SettingsTests.test_former_name_of_stapling",
            "tls.test_settings_warnings.WarningTests.test_staples",
        ),
    ),
    Check(
        8,
        "the default pair is loaded; missing DH parameters are made",
        (
            "tls.test_document.CertificateFileTests.test_defaults",
            f"{OPTIONS}.DHParamTests.test_generated",
        ),
    ),
    Check(
        9,
        "DH parameters: made once, of the size asked for, failures told",
        (
            f"{OPTIONS}.DHParamTests.test_generated",
            f"{OPTIONS}.DHParamTests.test_failure",
            "tls.test_dhparams.WritingTests.test_there",
            "service.test_groups.GroupFilesTests.test_missing",
            "service.test_groups.GroupFilesTests.test_read_only",
        ),
        ours="the group of 2048 bits of RFC 7919 is written; no program is run for it",
    ),
    # -- certificates
    Check(
        10,
        "of nothing, nothing is read",
        (
            "tls.test_pem.ContentsTests.test_nothing",
            "tls.test_pairing.DefaultPairTests.test_no_pem",
        ),
    ),
    Check(11, "of what is no PEM, nothing is read", ("tls.test_pem.ContentsTests.test_nothing",)),
    Check(
        12,
        "PRIVATE KEY, RSA PRIVATE KEY, EC PRIVATE KEY; junk behind them; keys alone",
        ("tls.test_pem.ContentsTests.test_kinds_of_key", f"{IN}.ParsingTests.test_key_alone"),
    ),
    Check(
        13,
        "names and expiry of the two bundles",
        (f"{IN}.ParsingTests.test_names_and_expiry",),
    ),
    Check(
        14,
        "CN beside an e-mail address; DNS names in order; CN first, nothing twice; dates in UTC",
        (f"{IN}.ParsingTests.test_subjects",),
    ),
    Check(
        15,
        "two certificates, one of which cannot be read",
        (f"{IN}.ParsingTests.test_unparsable_certificate",),
        ours="it is told which one",
    ),
    Check(
        16,
        "the directory: default, mail.haraka.io, haraka.local, *.example.com",
        (f"{IN}.DirectoryTests.test_entries",),
        ours="the wildcard is also shown for the names that it matches",
    ),
    Check(
        17,
        "no directory, no error",
        (
            "tls.test_document.CertificateDirectoryTests.test_no_directory",
            "tls.test_bundles.NamedPairsTests.test_nothing",
        ),
    ),
    Check(
        18,
        "key, certificate and path of each entry",
        (f"{IN}.DirectoryTests.test_sources",),
    ),
    Check(
        19,
        "intermediate certificates in a bundle are kept",
        (
            "tls.test_document.CertificateDirectoryTests.test_bundle",
            "tls.test_bundles.NamedPairsTests.test_bundle",
        ),
        ours="Haraka drops them",
    ),
    Check(
        20,
        "a key that does not fit is refused, and nothing else is",
        (
            f"{IN}.DirectoryTests.test_entries",
            "tls.test_server.NameTests.test_mismatch_in_the_directory",
        ),
    ),
    Check(
        21,
        "a directory full of noise still has a result",
        (f"{IN}.DirectoryTests.test_loud", "tls.test_bundles.NamedPairsTests.test_problems"),
    ),
    # -- contexts and names
    Check(
        22,
        "a context of a valid pair; of garbage, an exception",
        (
            "tls.test_document.CertificateFileTests.test_defaults",
            "tls.test_contexts.ServerContextTests.test_wrong_key",
            "tls.test_options.CertificateTests.test_broken_pair",
        ),
        ours="the exception goes no further than to a line that names the file",
    ),
    Check(
        23,
        "unknown names get the default, specific ones beat it; nothing at all is no exception",
        (
            f"{IN}.DirectoryTests.test_specific_beats_default",
            f"{IN}.DirectoryTests.test_nothing_at_all",
            "tls.test_document.CertificateDirectoryTests.test_no_match",
        ),
    ),
    Check(
        24,
        "contexts are thrown away and made anew",
        (
            "tls.test_server.ReplaceTests.test_replace",
            "tls.test_server.ReplaceTests.test_mistake",
        ),
        ours="there is no moment without any, and none if the new ones cannot be made",
    ),
    Check(
        25,
        "what is wrong for one name leaves the default as it is",
        (
            f"{IN}.DirectoryTests.test_entries",
            "tls.test_server.NameTests.test_mismatch_in_the_directory",
        ),
    ),
    # -- requireAuthorized
    Check(
        26,
        "refused by the option, or by the port",
        (
            f"{IN}.RequireAuthorizedTests.test_rules",
            "tls.test_policy.InboundTests.test_client_certificate",
        ),
    ),
    Check(
        27,
        "no certificate on 2465, with TLS from the start: refused",
        (f"{IN}.RequireAuthorizedTests.test_no_certificate",),
    ),
    Check(
        28,
        "no certificate on 2587, after STARTTLS: refused",
        (f"{IN}.RequireAuthorizedTests.test_no_certificate",),
    ),
    Check(
        29,
        "an untrusted certificate is refused, a trusted one verified, on both ports",
        (
            f"{IN}.RequireAuthorizedTests.test_certificates",
            f"{OPTIONS}.RequireAuthorizedTests.test_example",
            f"{OPTIONS}.RejectUnauthorizedTests.test_true",
        ),
        ours="Haraka takes any certificate after STARTTLS",
    ),
    # -- the plugin
    Check(
        30,
        "the plugin tls offers STARTTLS where there are certificates, and upgrades",
        (
            "plugins.test_small_ones.StartTLSOfferTests.test_offered",
            "tls.test_document.CertificateFileTests.test_defaults",
            "tls.test_document.CertificateFileTests.test_not_installed",
        ),
        ours="the plugin offers; the upgrade is the server's own",
    ),
    Check(
        31,
        "the line of a verified client: secured: verified=true cn=...",
        (f"{IN}.SecuredLineTests.test_verified",),
        ours="for clients with a certificate alone; names and SHA-256 in place of organization, "
        "issuer and SHA-1",
    ),
    Check(
        32,
        "with the error, before the name; addresses in and beside [no_tls_hosts]",
        (
            f"{IN}.SecuredLineTests.test_not_verified",
            f"{HOSTS}.NoTLSHostsTests.test_listed",
            f"{HOSTS}.NoTLSHostsTests.test_others",
        ),
    ),
    # -- a client's sockets
    Check(
        33,
        "a server that demands a certificate: an error, which is not swallowed",
        (
            f"{OUT}.ClientSocketTests.test_certificate_is_demanded",
            "tls.test_mutual.RefusalTests.test_told",
        ),
    ),
    Check(
        34,
        "a second error, when nobody listens any more, ends nothing",
        (f"{OUT}.ClientSocketTests.test_after_the_failure",),
    ),
    Check(
        35,
        "mutual_auth_hosts: a host and its certificate; time limit and keep-alive as they were",
        (
            "tls.test_mutual.RuleTests.test_listed",
            "flows.test_tls_to_peer.CertificateTests.test_it_gets_one",
        ),
        ours="time limits are settings of their own, which no rule about certificates touches",
    ),
    Check(
        36,
        "mutual_auth_hosts_exclude counts more than mutual_tls; bare entries count",
        ("tls.test_mutual.RuleTests.test_excluded", "tls.test_mutual.RuleTests.test_listed"),
        ours="it counts more than mutual_auth_hosts as well; in Haraka bare entries do nothing",
    ),
    Check(
        37,
        "mutual_tls: the certificate that is named like the host",
        (
            "tls.test_mutual.RuleTests.test_named_like_the_host",
            "tls.test_mutual.RuleTests.test_everybody",
        ),
    ),
    Check(
        38,
        "without certificates for it, none is shown",
        (
            "tls.test_mutual.RuleTests.test_nobody",
            "tls.test_mutual.MistakeTests.test_files",
            "tls.test_mutual.ReasonTests.test_pure",
            "tls.test_document_sections.OutboundSectionTests.test_certificate",
        ),
    ),
    Check(
        39,
        "the options that were handed in stay as they were",
        (
            f"{OUT}.ClientSocketTests.test_settings_stay",
            "tls.test_mutual.ReasonTests.test_pure",
        ),
        ours="nobody can change them",
    ),
    Check(
        40,
        "the pluggable stream: events pass, none after the end; secure is encrypted and verified; "
        "writes without a socket do nothing",
        (
            "tls.test_layer.LayerTests.test_both_directions",
            "tls.test_layer.LayerTests.test_data_before_close_notify",
            "tls.test_layer.LayerTests.test_data_behind_close_notify",
            "tls.test_link.LinkTests.test_over_tls",
            "tls.test_link.LinkTests.test_peer_is_gone",
            "inbound.test_protocol.BackpressureTests.test_peer_that_does_not_read",
            "inbound.test_protocol.StartTLSTests.test_lost_after_the_handshake",
            "inbound.test_protocol.StartTLSTests.test_too_slow",
            "outbound.test_connector.ForcedTests.test_a_summary_that_is_not_verified_counts",
        ),
        ours="a layer over memory for clients, Twisted's for next hops; neither replaces a socket",
    ),
    # -- deliveries
    Check(
        41,
        "server name, ciphers, versions and the other options of [outbound]",
        (f"{OUT}.OptionTests.test_options", f"{IN}.SettingsTests.test_outbound"),
        ours="the certificate of [outbound] is shown where a rule says so",
    ),
    Check(
        42,
        "no server name for an address, unless the DNS gave it for a name",
        (
            f"{OUT}.OptionTests.test_server_name",
            "tls.test_policy.OutboundDecisionTests.test_names",
        ),
    ),
    Check(
        43,
        "to ask again changes nothing",
        (f"{OUT}.ClientSocketTests.test_settings_stay",),
    ),
    Check(
        44,
        "sections of plugins: inherit, win; missing files; lists; no_tls_hosts of the main section "
        "is not inherited",
        (
            "tls.test_document_sections.PluginSectionTests.test_shared",
            "tls.test_document_sections.PluginSectionTests.test_own",
            "tls.test_plugin_sections.PluginSectionTests.test_main",
            "tls.test_plugin_sections.PluginSectionTests.test_mistakes",
            "tls.test_settings.ValueTests.test_hosts",
        ),
        ours="a file that is missing is told, and then nobody is trusted",
    ),
    Check(
        45,
        "while the memory of failures is off nothing is asked, marked or loaded",
        (
            f"{OUT}.OptionTests.test_nothing_is_opened",
            f"{HOSTS}.NoGoInboundTests.test_not_enabled",
            f"{HOSTS}.NoGoOutboundTests.test_not_enabled",
        ),
    ),
    Check(
        46,
        "a forced address is none of its neighbours; a forced domain is forced at each host",
        (f"{OUT}.OptionTests.test_forced", f"{HOSTS}.ForcedHostsTests.test_valid_certificate"),
    ),
)
