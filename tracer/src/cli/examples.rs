//! The examples at the end of each `--help`, and of each manual page.

pub const TRACER: &str = "\
EXAMPLES:
  See who is slow and whose fault it is:
      sudo tracer top
  Ask who makes etcd slow, with the evidence:
      sudo tracer why etcd
  Print every sync of etcd that takes 25 ms or longer:
      sudo tracer watch --min 25ms --filter etcd
  Record ten minutes, and ask later:
      sudo tracer record -o slow.rec --for 10m
      tracer replay slow.rec
  Ask an agent's flight recorder what happened last night:
      sudo tracer timeline
      sudo tracer why etcd --at 03:12
  Ask what the tracer can see on this machine:
      sudo tracer doctor
  Watch it find a culprit that it created itself:
      sudo tracer demo

EXIT CODES:
  0  done
  1  failed while running
  2  bad usage
  3  this machine cannot run it (not root, or the kernel lacks something)
  4  the file is damaged, cut off or not a recording; all that could be read was shown";

pub const TOP: &str = "\
EXAMPLES:
  Watch the node, with a new screen each second:
      sudo tracer top
  Show only victims named etcd, every five seconds:
      sudo tracer top --filter etcd --interval 5
  Show only victims on one disk, in one namespace; culprits are named wherever they run:
      sudo tracer top --disk sdb --namespace shop
  Write one minute to a file, to send to a colleague:
      sudo tracer top --batch --for 1m --interval 10 > slow.txt
  Print the worst victim now, for a script:
      sudo tracer top --json -n 1 | jq '.victims[0]'";

pub const WHY: &str = "\
EXAMPLES:
  Watch for half a minute, then say who makes etcd's log slow:
      sudo tracer why etcd
  Watch whoever is slowest, for two minutes:
      sudo tracer why --for 2m
  Print a verdict every ten seconds, for a log or a script:
      sudo tracer why etcd --every 10s --json | jq '[.kind, .culprits[0].name]'
  Ask the agent's flight recorder who made it slow at 03:12:
      sudo tracer why etcd --at 03:12 --for 5m
      sudo tracer why etcd --since 2026-11-29T03:00:00+01:00 --until 04:00
  Ask the agent of a node, from your desk:
      tracer why etcd --at 03:12 --agent http://node:9464";

pub const WATCH: &str = "\
EXAMPLES:
  Print every sync on the node that takes 10 ms or longer:
      sudo tracer watch
  Print the very slow ones of PostgreSQL, for an hour:
      sudo tracer watch --min 100ms --filter postgres --for 1h
  Print durations only, for a script:
      sudo tracer watch --json | jq .duration_seconds";

pub const RECORD: &str = "\
EXAMPLES:
  Record ten minutes of this node:
      sudo tracer record -o slow.rec --for 10m
  Record until ^C, to a file on another machine:
      ssh root@node tracer record -o - > node.rec
  Extract the durations of the syncs:
      zcat slow.rec | jq '.sync.duration_ns // empty'";

pub const REPLAY: &str = "\
EXAMPLES:
  Print who made whom slow, over the whole recording:
      tracer replay slow.rec
  Print who made etcd's log slow, every ten seconds:
      tracer replay slow.rec etcd --every 10s
  Print that for a script:
      tracer replay slow.rec --json | jq .verdict
  Watch it, ten times faster than real time:
      tracer replay slow.rec top
  Print every sync that took 50 ms or longer:
      tracer replay slow.rec watch --min 50ms
  Print the verdict on two minutes of an agent's flight recorder:
      tracer replay /var/lib/tracer-recording etcd --at 03:12 --for 2m";

pub const REPORT: &str = "\
EXAMPLES:
  Report on last night, as a page to attach to a post-mortem:
      sudo tracer report --since 00:00 --until 06:00 -o night.html
  Report only what etcd had to wait for, in Markdown for a ticket:
      sudo tracer report --filter etcd --format md
  Report on what an agent has recorded, through its socket:
      sudo tracer report --since 2h --agent unix:/run/tracer.sock -o now.html
  Report on a recording:
      tracer report slow.rec -o slow.html";

pub const TIMELINE: &str = "\
EXAMPLES:
  Print what happened on this node, from its agent's flight recorder:
      sudo tracer timeline
  Print what happened on a node, from your desk:
      tracer timeline --since 00:00 --agent http://node:9464
  Print what happened in a recording from midnight on, in UTC:
      TZ=UTC tracer timeline slow.rec --since 00:00
  Print what etcd had to wait for in the last two hours, for a script:
      sudo tracer timeline --since 2h --filter etcd --json | jq 'select(.event == \"slow_ended\")'";

pub const MARK: &str = "\
EXAMPLES:
  Say what you did, so that the timeline shows the numbers before and after it:
      systemctl stop fstrim.timer fstrim.service
      sudo tracer mark \"stopped fstrim.service\"
  Say it to the agent of a node in a cluster, which has a socket there:
      kubectl -n tracer exec tracer-x7k2p -- /tracer mark \"moved shop/web to another node\"";

pub const AGENT: &str = "\
EXAMPLES:
  Serve metrics and the page to this node only:
      sudo tracer agent
  Let a Prometheus on another machine scrape them:
      sudo tracer agent --listen [::]:9464
  Record continuously, to investigate the night in the morning:
      sudo tracer agent --record /var/lib/tracer-recording
  Record, and answer questions about it on a socket that only root can open:
      sudo tracer agent --record /var/lib/tracer-recording --socket /run/tracer.sock
  Require TLS and passwords, with a plain port for probes:
      sudo tracer agent --listen [::]:9464 --web-config web.yml --probe-listen 127.0.0.1:9465
  Read a configuration file, and print the settings that result from all sources:
      sudo tracer agent --config /etc/tracer.toml
      tracer agent --config /etc/tracer.toml --print-config
  Check whether this node, or this container, has what the agent needs:
      sudo tracer doctor --agent";

pub const DOCTOR: &str = "\
EXAMPLES:
  See which attach strategies this kernel supports and which are selected:
      sudo tracer doctor
  Try another strategy first:
      sudo tracer doctor --strategy CAPABILITY=STRATEGY
  Check, item by item, whether `tracer agent` has what it needs:
      sudo tracer doctor --agent
  Write the output to a file, for a bug report:
      sudo tracer doctor --json > doctor.json";

pub const DEMO: &str = "\
EXAMPLES:
  Make a disk, a victim and a culprit, and print the verdict:
      sudo tracer demo
  Make them on the disk that holds this directory:
      sudo tracer demo --dir /var/lib
  Print the findings for a script:
      sudo tracer demo --fast --json";

pub const KUBECTL: &str = "\
EXAMPLES:
  Install the plugin, and check that kubectl finds it:
      ln -s $(command -v tracer) ~/.local/bin/kubectl-tracer && kubectl tracer --help
  Watch for a minute, then say who makes this pod slow:
      tracer kubectl why shop/web-0 -- --for 1m
  Show a node as `tracer top` would show it there:
      tracer kubectl top worker-3
  Write a report on what happened to this pod in the night, as one page of HTML:
      tracer kubectl report shop/web-0 -- --at 03:00 > report.html
  Show a node that has no agent, with an image from a registry:
      tracer kubectl top worker-3 --image registry.example/tracer@sha256:…";

pub const COMPLETIONS: &str = "\
EXAMPLES:
  Complete in this bash session:
      source <(tracer completions bash)
  Complete in all future fish shells of this user:
      tracer completions fish > ~/.config/fish/completions/tracer.fish";

pub const MAN: &str = "\
EXAMPLES:
  Read the manual:
      tracer man | man -l -
  Read the page of one command:
      tracer man top | man -l -";
