"""Checks 47 to 70: queue and delivery, and what else there is."""

from tests.haraka.checks import Check

ONE_DATABASE = "the queue is one SQLite database, with files for large bodies"

OTHERS = (
    # -- queue and delivery
    Check(
        47,
        "schedules: the default, 10s, 1m*2, the long one, none, and one with an error",
        (
            "outbound.test_settings.IntervalTests.test_default_schedule",
            "outbound.test_settings.IntervalTests.test_grammar",
            "outbound.test_settings.IntervalTests.test_mistakes",
        ),
        ours="a schedule with an error keeps the server from starting",
    ),
    Check(
        48,
        "names of queue files: parts, overrides, the older form, escapes",
        (
            "spool.test_codec.CodecTests.test_round_trip",
            "contracts.staging.StagingContract.test_ids_that_are_no_file_names",
        ),
        ours=f"{ONE_DATABASE}; no name tells anything",
    ),
    Check(
        49,
        "temporary and broken files, and junk, are no messages",
        (
            "spool.test_codec.CodecTests.test_garbage",
            "spool.test_database.DatabaseTests.test_start_that_was_broken_off",
            "spool.test_database.DatabaseTests.test_sweeping",
        ),
        ours=ONE_DATABASE,
    ),
    Check(
        50,
        "loading skips what is empty or invalid; another process's files are taken over; one "
        "failure stops no other file",
        (
            "spool.test_damage.DamageTests.test_undecodable_row",
            "spool.test_ledger.LeaseTests.test_successor",
            "spool.test_ledger.LeaseTests.test_dead_worker",
        ),
        ours=ONE_DATABASE,
    ),
    Check(
        51,
        "the directory is made; left-over files are removed, and no others; what cannot be read "
        "raises",
        (
            "spool.test_database.DatabaseTests.test_new",
            "spool.test_database.DatabaseTests.test_again",
            "spool.test_database.DatabaseTests.test_sweeping",
            "spool.test_database.DatabaseTests.test_directory_that_cannot_be_made",
        ),
        ours=ONE_DATABASE,
    ),
    Check(
        52,
        "what is due goes now, what is not goes then",
        (
            "outbound.test_runner.ClaimTests.test_what_is_due_is_delivered_at_the_start",
            "outbound.test_runner.ClaimTests.test_what_is_due_later_at_the_start",
        ),
    ),
    Check(
        53,
        "the envelope of a queue file: many octets for a letter, wrong lengths, nothing, gone",
        (
            "spool.test_codec.CodecTests.test_round_trip",
            "spool.test_codec.CodecTests.test_wrong_types",
            "spool.test_damage.DamageTests.test_body_file_cut",
            "spool.test_damage.DamageTests.test_body_file_gone",
            "spool.test_damage.DamageTests.test_small_body_changed",
            "outbound.test_runner.RecordTests.test_a_message_that_cannot_be_read_is_set_aside",
        ),
        ours=ONE_DATABASE,
    ),
    Check(
        54,
        "Message-Id and Date are added where they are missing; Received is on top",
        (
            "outbound.test_delivery.DeliveredTests.test_the_received_field_is_put_on_top",
            "plugins.test_completion.CompletionTests.test_what_is_missing",
        ),
    ),
    Check(
        55,
        "lines that end in LF or CRLF all end in CRLF then",
        (
            "inbound.test_reception.RefusedMessageTests.test_bare_line_ends",
            "outbound.test_delivery.DeliveredTests.test_the_message_arrives",
        ),
        ours="a message with a bare LF is refused: that is how mail is smuggled",
    ),
    Check(
        56,
        "no route: by a plugin, NXDOMAIN, another DNS error, null MX, no MX left",
        (
            "outbound.test_routing.RefusalTests.test_a_failing_route_hook_delays",
            "outbound.test_routing.RefusalTests.test_a_domain_that_does_not_exist_is_final",
            "outbound.test_routing.RefusalTests.test_a_dns_that_does_not_answer_is_not",
            "outbound.test_routing.RefusalTests.test_a_null_mx_is_final",
            "outbound.test_routing.RefusalTests.test_neither_mx_nor_address_is_final",
            "outbound.test_broken.BrokenTests.test_no_host_answers",
        ),
        ours="451 4.4.3 for the DNS (RFC 3463), 5.1.10 for a null MX (RFC 7505); a route hook "
        "gives a route or none, it denies nothing",
    ),
    Check(
        57,
        "5yz to MAIL, RCPT or DATA: a report with that status, recipient and words",
        (
            "outbound.test_answers.ReplyTests.test_a_lasting_refusal_of_the_transaction_is_final",
            "outbound.test_dsn.StatusTests.test_each_recipient",
            "outbound.test_dsn.FormTests.test_the_report_is_multipart_of_three",
            "flows.test_spool_to_peer.FailureFlowTests.test_an_unknown_user",
        ),
    ),
    Check(
        58,
        "4yz, or 3yz to MAIL: delayed, with that status",
        (
            "outbound.test_answers.ReplyTests.test_only_passing_refusals_delay",
            "outbound.test_answers.ReplyTests.test_a_passing_refusal_leads_to_the_next_host",
            "outbound.test_answers.ReplyTests.test_a_reply_of_no_use_is_a_passing_failure",
        ),
        ours="the other hosts are tried first; delays are told with delay_warning_time alone",
    ),
    Check(
        59,
        "MXs by preference, equal ones shuffled",
        (
            "outbound.test_routing.MailExchangerTests.test_lower_preferences_come_first",
            "outbound.test_routing.MailExchangerTests.test_equal_preferences_are_shuffled",
            "outbound.test_routing.ShuffleTests.test_preferences_never_fall",
        ),
    ),
    Check(
        60,
        "an error and then a timeout, the other way round, or two timeouts raise nothing",
        ("haraka.test_sockets.TwiceTests.test_failures_in_any_order",),
    ),
    Check(
        61,
        "the queue of times: add, drain, take out",
        (
            "contracts.claiming.ClaimingContract.test_not_yet_due",
            "contracts.claiming.ClaimingContract.test_next_due",
            "contracts.claiming.ClaimingContract.test_order_of_claims",
            "contracts.claiming.ClaimingContract.test_settled_for_good",
        ),
        ours="the times stand in the database, and one timer waits for the first",
    ),
    # -- the rest
    Check(
        62,
        "listen: addresses, default ports, brackets, lists",
        (
            "inbound.test_settings.ListenTests.test_forms",
            "inbound.test_settings.ListenTests.test_list",
        ),
    ),
    Check(
        63,
        "endpoints: a number, IPv6 without brackets, in capitals, junk; a unix socket",
        (
            "inbound.test_settings.ListenTests.test_forms",
            "inbound.test_settings.ListenTests.test_mistakes",
        ),
        ours="C{::1:2525} could be both, and is refused; so are unix sockets",
    ),
    Check(
        64,
        "the pool of hosts behind smtp_forward: port 25; all are used, dead ones are not, unless "
        "all are dead; one comes back",
        (
            "plugins.test_host_pool.HostPoolTests.test_in_turn",
            "plugins.test_host_pool.HostPoolTests.test_one_that_failed",
            "plugins.test_host_pool.HostPoolTests.test_all_failed",
            "plugins.test_host_pool.HostPoolTests.test_one_that_is_back",
            "plugins.test_next_hops.TextTests.test_spellings",
        ),
        ours="a host that failed is asked again by the next message, not by a probe of its own",
    ),
    Check(
        65,
        "time limits of plugins: 0, 3, 60, and what is no number",
        (
            "config.test_timeouts.PluginTimeoutTests.test_for_all_and_for_one",
            "config.test_timeouts.PluginTimeoutTests.test_no_number",
            "config.test_timeouts.PluginTimeoutTests.test_default",
        ),
        ours="what is no number keeps the server from starting",
    ),
    Check(
        66,
        "a connection before TLS; the peer's address; relaying for a transaction; the answer to "
        "a message",
        (
            "inbound.test_conversation.LogTests.test_without_hello",
            "inbound.test_protocol.ConnectionTests.test_addresses",
            "inbound.test_dialogue.GreetingTests.test_relaying_is_asked_once",
            "inbound.test_reception.TransactionTests.test_relaying",
            "inbound.test_reception.TransactionTests.test_message_is_queued",
            "inbound.test_dialogue.VerdictTests.test_own_words_of_acceptance",
        ),
        ours="who may relay is asked once, for the connection",
    ),
    Check(
        67,
        "smtp_client: STARTTLS if it is offered, wanted, not there yet and the host is not "
        "excepted; EHLO once more; HELO; XCLIENT and AUTH",
        (
            "outbound.test_connector.OpportunisticTests.test_tls_is_used_where_it_is_offered",
            "outbound.test_connector.OpportunisticTests.test_in_the_clear_where_it_is_not",
            "outbound.test_connector.OpportunisticTests.test_enable_tls_off",
            "tls.test_document_hosts.NoTLSHostsOutboundTests.test_array",
            "outbound.test_delivery.DeliveredTests.test_helo_for_servers_that_do_not_know_ehlo",
            "outbound.test_login.LoginTests.test_plain",
            "outbound.test_login.LoginTests.test_auth_type",
            "outbound.test_login.LoginTests.test_no_auth_offered",
            "plugins.test_introduced.ForwardTests.test_told",
            "plugins.test_introduced.ForwardTests.test_inside_of_tls",
            "plugins.test_introduced.ForwardTests.test_our_own_login",
        ),
        ours="XCLIENT comes behind STARTTLS, so that nobody on the way hears of the client, and "
        "before AUTH",
    ),
    Check(
        68,
        "smtp_forward: which section counts; spoofed senders; a split transaction; next_hop; "
        "enable_outbound for a domain",
        (
            "plugins.test_smtp_forward.SettingsTests.test_which_section",
            "plugins.test_smtp_forward.EnvelopeTests.test_check_sender",
            "plugins.test_smtp_forward.EnvelopeTests.test_check_recipient",
            "plugins.test_next_hops.TextTests.test_spellings",
            "plugins.test_next_hops.TextTests.test_logins",
            "plugins.test_smtp_forward.MessageTests.test_enable_outbound",
        ),
        ours="next_hop is for routes in relay_dest_domains.ini; a note of a plugin has none",
    ),
    Check(
        69,
        "auth_base: none without TLS; CRAM-MD5, PLAIN, LOGIN; notes; constrain_sender",
        (
            "smtp.test_server.AuthTests.test_in_the_clear",
            "smtp.test_server.AuthTests.test_once",
            "inbound.test_authentication.OfferTests.test_in_the_clear",
            "inbound.test_authentication.MechanismTests.test_plain",
            "inbound.test_authentication.MechanismTests.test_login",
            "inbound.test_authentication.MechanismTests.test_cram_md5",
            "inbound.test_authentication.OutcomeTests.test_once",
            "inbound.test_authentication.OutcomeTests.test_hooks_are_told",
            "plugins.test_auth_flat_file.SenderTests.test_constrained",
        ),
        ours="a second login is refused (RFC 4954), and so is another reply of a plugin",
    ),
    Check(
        70,
        "in_host_list: list, patterns, anti_spoof, our own sending to others; xclient",
        (
            "plugins.test_host_list.InHostListTests.test_recipients",
            "plugins.test_host_list.LocalDomainsTests.test_names",
            "plugins.test_host_list.LocalDomainsTests.test_patterns",
            "plugins.test_host_list.AntiSpoofTests.test_stranger_as_us",
            "plugins.test_host_list.AntiSpoofTests.test_others",
            "inbound.test_reception.TransactionTests.test_relaying",
            "plugins.test_xclient.XClientTests.test_hosts",
            "smtp.test_xclient.ParseTests.test_no_address",
            "inbound.test_xclient.XClientTests.test_greeting",
            "inbound.test_xclient.XClientTests.test_not_allowed",
            "inbound.test_xclient.XClientTests.test_in_transaction",
        ),
    ),
)
