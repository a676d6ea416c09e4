# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_wsgate_global_optspecs
    string join \n h/help V/version
end

function __fish_wsgate_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_wsgate_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_wsgate_using_subcommand
    set -l cmd (__fish_wsgate_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c wsgate -n "__fish_wsgate_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgate -n "__fish_wsgate_needs_command" -s V -l version -d 'Print version'
complete -c wsgate -n "__fish_wsgate_needs_command" -f -a "run" -d 'Run the gateway until SIGTERM (drains first) or SIGINT'
complete -c wsgate -n "__fish_wsgate_needs_command" -f -a "check" -d 'Say everything that is wrong with a configuration, and exit with 78 if something is'
complete -c wsgate -n "__fish_wsgate_needs_command" -f -a "connect" -d 'Talk to a WebSocket server: lines of stdin are sent as text messages, messages are printed to stdout'
complete -c wsgate -n "__fish_wsgate_needs_command" -f -a "filter" -d 'Make, build, test and measure filters; list and steer those of a running gateway, over its admin API'
complete -c wsgate -n "__fish_wsgate_needs_command" -f -a "drain" -d 'Take a running gateway out of service, and back: not ready first, then 503 for new connections and closes that are spread over `drain_timeout`; the process stays'
complete -c wsgate -n "__fish_wsgate_needs_command" -f -a "completions" -d 'Print what completes commands in a shell'
complete -c wsgate -n "__fish_wsgate_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c wsgate -n "__fish_wsgate_using_subcommand run" -l config -d 'The configuration' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand run" -l upstream -d 'Run without a configuration file: every path goes to this server' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand run" -l filter -d 'A filter for the messages of --upstream; several are asked in this order' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand run" -l listen -d 'Where clients of --upstream connect [default: 127.0.0.1:8080]' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand run" -l admin -d 'Where --upstream has its admin API; a loopback address [default: 127.0.0.1:9901]' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand run" -s h -l help -d 'Print help'
complete -c wsgate -n "__fish_wsgate_using_subcommand check" -l config -d 'The configuration' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand check" -l against -d 'The admin API of a running gateway: say what loading the file would change there, and change nothing' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand check" -l token-file -d 'A file with a token for it; else the variable WSGATE_ADMIN_TOKEN counts, where it is set' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand check" -s h -l help -d 'Print help'
complete -c wsgate -n "__fish_wsgate_using_subcommand connect" -s H -l header -d 'Send a header with the handshake; may be repeated' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand connect" -l subprotocol -d 'Offer a subprotocol; may be repeated, the first is preferred' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand connect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and not __fish_seen_subcommand_from new build test bench inspect ls rollback mode help" -s h -l help -d 'Print help'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and not __fish_seen_subcommand_from new build test bench inspect ls rollback mode help" -f -a "new" -d 'Make a project for a new filter'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and not __fish_seen_subcommand_from new build test bench inspect ls rollback mode help" -f -a "build" -d 'Build a filter\'s component: dist/NAME.wasm'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and not __fish_seen_subcommand_from new build test bench inspect ls rollback mode help" -f -a "test" -d 'Test a component by a file that says what it should do; see docs/filter-tools.md'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and not __fish_seen_subcommand_from new build test bench inspect ls rollback mode help" -f -a "bench" -d 'Measure what the calls into a component cost'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and not __fish_seen_subcommand_from new build test bench inspect ls rollback mode help" -f -a "inspect" -d 'Say what a component is, which rights it may need, and whether a gateway would load it'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and not __fish_seen_subcommand_from new build test bench inspect ls rollback mode help" -f -a "ls" -d 'List the filters of a running gateway'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and not __fish_seen_subcommand_from new build test bench inspect ls rollback mode help" -f -a "rollback" -d 'Go back to the generation that served before; its file is not loaded again until it changes'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and not __fish_seen_subcommand_from new build test bench inspect ls rollback mode help" -f -a "mode" -d 'Let a filter serve, leave it out, or refuse new connections of its routes, until the gateway ends'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and not __fish_seen_subcommand_from new build test bench inspect ls rollback mode help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from new" -l lang -d 'The language that it is written in' -r -f -a "rust\t''
js\t'JavaScript'
ts\t'TypeScript'
python\t''
c\t''"
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from new" -l dir -d 'Make the folder in this one' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from new" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from build" -l into -d 'Put the component there too, such as into a folder that a gateway watches' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from build" -l config -d 'Put the component into the `filter_dir` of this configuration' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from build" -l watch -d 'Build again whenever a source changes, until Ctrl-C'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from build" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from test" -l cases -d 'What it should do [default: cases.toml, of the project or here]' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from bench" -l config -d 'The filter\'s configuration, as one JSON object' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from bench" -l allow -d 'The filter\'s rights, as one JSON object, such as \'{"key_value": ["sessions"]}\'; HTTP requests are denied in any case' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from bench" -l message -d 'One message instead of text of several sizes: the content of this file or, where there is none, this text' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from bench" -l direction -d 'Which way messages go' -r -f -a "to-upstream\t'From the client'
to-client\t'To the client'"
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from bench" -l format -d 'How figures are told' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from bench" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from inspect" -l format -d 'How it is told' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from ls" -l admin -d 'The admin API of the gateway' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from ls" -l token-file -d 'A file with a token for it; else the variable WSGATE_ADMIN_TOKEN counts, where it is set' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from ls" -l json -d 'Print what the admin API answers, as JSON'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from rollback" -l admin -d 'The admin API of the gateway' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from rollback" -l token-file -d 'A file with a token for it; else the variable WSGATE_ADMIN_TOKEN counts, where it is set' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from rollback" -s h -l help -d 'Print help'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from mode" -l admin -d 'The admin API of the gateway' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from mode" -l token-file -d 'A file with a token for it; else the variable WSGATE_ADMIN_TOKEN counts, where it is set' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from mode" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from help" -f -a "new" -d 'Make a project for a new filter'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from help" -f -a "build" -d 'Build a filter\'s component: dist/NAME.wasm'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from help" -f -a "test" -d 'Test a component by a file that says what it should do; see docs/filter-tools.md'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from help" -f -a "bench" -d 'Measure what the calls into a component cost'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from help" -f -a "inspect" -d 'Say what a component is, which rights it may need, and whether a gateway would load it'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List the filters of a running gateway'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from help" -f -a "rollback" -d 'Go back to the generation that served before; its file is not loaded again until it changes'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from help" -f -a "mode" -d 'Let a filter serve, leave it out, or refuse new connections of its routes, until the gateway ends'
complete -c wsgate -n "__fish_wsgate_using_subcommand filter; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c wsgate -n "__fish_wsgate_using_subcommand drain" -l admin -d 'The admin API of the gateway' -r
complete -c wsgate -n "__fish_wsgate_using_subcommand drain" -l token-file -d 'A file with a token for it; else the variable WSGATE_ADMIN_TOKEN counts, where it is set' -r -F
complete -c wsgate -n "__fish_wsgate_using_subcommand drain" -l wait -d 'Wait until nobody is left, or `drain_delay` and `drain_timeout` are over'
complete -c wsgate -n "__fish_wsgate_using_subcommand drain" -l undo -d 'Take the gateway back into service'
complete -c wsgate -n "__fish_wsgate_using_subcommand drain" -l status -d 'Only say how far it is'
complete -c wsgate -n "__fish_wsgate_using_subcommand drain" -s h -l help -d 'Print help'
complete -c wsgate -n "__fish_wsgate_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and not __fish_seen_subcommand_from run check connect filter drain completions help" -f -a "run" -d 'Run the gateway until SIGTERM (drains first) or SIGINT'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and not __fish_seen_subcommand_from run check connect filter drain completions help" -f -a "check" -d 'Say everything that is wrong with a configuration, and exit with 78 if something is'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and not __fish_seen_subcommand_from run check connect filter drain completions help" -f -a "connect" -d 'Talk to a WebSocket server: lines of stdin are sent as text messages, messages are printed to stdout'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and not __fish_seen_subcommand_from run check connect filter drain completions help" -f -a "filter" -d 'Make, build, test and measure filters; list and steer those of a running gateway, over its admin API'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and not __fish_seen_subcommand_from run check connect filter drain completions help" -f -a "drain" -d 'Take a running gateway out of service, and back: not ready first, then 503 for new connections and closes that are spread over `drain_timeout`; the process stays'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and not __fish_seen_subcommand_from run check connect filter drain completions help" -f -a "completions" -d 'Print what completes commands in a shell'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and not __fish_seen_subcommand_from run check connect filter drain completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and __fish_seen_subcommand_from filter" -f -a "new" -d 'Make a project for a new filter'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and __fish_seen_subcommand_from filter" -f -a "build" -d 'Build a filter\'s component: dist/NAME.wasm'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and __fish_seen_subcommand_from filter" -f -a "test" -d 'Test a component by a file that says what it should do; see docs/filter-tools.md'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and __fish_seen_subcommand_from filter" -f -a "bench" -d 'Measure what the calls into a component cost'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and __fish_seen_subcommand_from filter" -f -a "inspect" -d 'Say what a component is, which rights it may need, and whether a gateway would load it'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and __fish_seen_subcommand_from filter" -f -a "ls" -d 'List the filters of a running gateway'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and __fish_seen_subcommand_from filter" -f -a "rollback" -d 'Go back to the generation that served before; its file is not loaded again until it changes'
complete -c wsgate -n "__fish_wsgate_using_subcommand help; and __fish_seen_subcommand_from filter" -f -a "mode" -d 'Let a filter serve, leave it out, or refuse new connections of its routes, until the gateway ends'
