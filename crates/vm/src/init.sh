#!/bin/busybox sh
# The first process of a guest: makes a small machine, runs the tests, and says
# in one last line how they ended. Everything but the kernel's own words goes to
# the second serial port, which nothing else writes to.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /mnt /var/tmp /var/lib /etc
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mkdir -p /dev/shm /dev/pts
mount -t tmpfs shm /dev/shm
mount -t devpts pts /dev/pts
mount -t securityfs security /sys/kernel/security 2>/dev/null
mount -t debugfs debug /sys/kernel/debug 2>/dev/null
mount -t tracefs trace /sys/kernel/tracing 2>/dev/null
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/mounts /etc/mtab
echo '127.0.0.1 localhost' >/etc/hosts

. /root/plan
port=/dev/${SERIAL}1
[ -c "$port" ] || port=/dev/console
stty -F "$port" raw 2>/dev/null
exec >"$port" 2>&1

case $CGROUP in
v1)
    mount -t tmpfs cgroup /sys/fs/cgroup
    for controller in cpu cpuacct memory blkio cpuset; do
        mkdir -p /sys/fs/cgroup/$controller
        mount -t cgroup -o $controller cgroup /sys/fs/cgroup/$controller 2>/dev/null ||
            { rmdir /sys/fs/cgroup/$controller; echo "guest: no cgroup v1 $controller"; }
    done
    mkdir -p /sys/fs/cgroup/unified
    mount -t cgroup2 cgroup /sys/fs/cgroup/unified
    ;;
*)
    mount -t cgroup2 cgroup /sys/fs/cgroup
    for controller in io memory cpu cpuset; do
        echo +$controller >/sys/fs/cgroup/cgroup.subtree_control ||
            echo "guest: no cgroup controller $controller"
    done
    ;;
esac

ip link set lo up
hostname guest
for module in $MODULES; do modprobe -q "$module"; done
# The tests' disk: ext4 on a loop device over a file in memory.
truncate -s 3G /disk.img
mkfs.ext4 -q -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 /disk.img &&
    mount -o loop /disk.img /var/tmp && mkdir -p /var/tmp/lib &&
    mount --bind /var/tmp/lib /var/lib || echo "guest: no disk for the tests"
# A kernel that stalls says so here, and is ended by whoever reads along.
echo 4 >/proc/sys/kernel/printk
echo "guest: $(uname -r), $(nproc) CPUs, up in $(cut -d' ' -f1 /proc/uptime) s"

cd /root
set -a
. /root/environment
set +a
eval "set -- $ARGUMENTS"
if [ -f script ]; then bash ./script; else ./tests "$@"; fi
result=$?
dmesg | grep -E 'WARNING|BUG|Oops|Lockdown: (tests|tracer)' | head -20 | sed 's/^/guest: dmesg: /'
echo "tracer-vm: exit $result"
# Whoever reads along ends the machine now.
sleep 10
poweroff -f
