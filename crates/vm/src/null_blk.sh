# In a guest: makes a null_blk of memory with ext4 on it, and has `./tests`, which
# is the bench, measure there. Its one line of JSON is for `cargo xtask bench`.
set -e
modprobe configfs
modprobe null_blk nr_devices=0
mount -t configfs none /sys/kernel/config 2>/dev/null || true
null_blk=/sys/kernel/config/nullb/bench
mkdir $null_blk
echo 640 >$null_blk/size
echo 1 >$null_blk/memory_backed
echo 2 >$null_blk/queue_mode
echo 0 >$null_blk/irqmode
echo 1 >$null_blk/power
for disk in /sys/block/nullb* /sys/block/bench; do
    [ -e "$disk" ] && device=/dev/${disk##*/}
done
mkfs.ext4 -q -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$device"
mkdir -p /mnt/null_blk
mount "$device" /mnt/null_blk
exec ./tests --on /mnt/null_blk --json $BENCH_ARGUMENTS
