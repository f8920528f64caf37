#!/rig/busybox sh
# The first program of the rig's Linux. root.rs wrote its neighbours:
#   /rig/modules/NAME.ko, /rig/order    what to load, in this order
#   /rig/command                        what to run
#   /rig/give                           what to write to disks afterwards
# Ports: ttyS0 console, ttyS1 standard output, ttyS2 standard error, ttyS3 the verdict: one line.

if [ "$1" != moved ]; then
    # The kernel's own first root can be neither pivoted nor unmounted; a mount of it over itself can.
    /rig/busybox mount --bind / /rig/root
    cd /rig/root || exit
    /rig/busybox mount --move . /
    exec /rig/busybox chroot . /rig/busybox sh /init moved
fi

export PATH=/rig/applets
chmod 755 /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
hostname rig
ip link set lo up
for port in 1 2 3; do stty -F /dev/ttyS$port raw -echo; done

end() {
    echo "$*" >/dev/ttyS3
    poweroff -f
    sleep 60
}

while read -r name parameters; do
    # Not quoted: each word is a parameter of its own.
    insmod /rig/modules/"$name".ko $parameters || end failed "the module $name cannot be loaded"
done </rig/order

# Pipes between the command and the ports, so that the command meets no terminal.
mkfifo /rig/out /rig/err
cat /rig/out >/dev/ttyS1 &
out=$!
cat /rig/err >/dev/ttyS2 &
err=$!
setsid /bin/sh /rig/command </dev/null >/rig/out 2>/rig/err
status=$?
# What the command left running would keep the pipes open for ever. Twice, for what forked meanwhile.
for pass in 1 2; do
    for process in /proc/[0-9]*; do
        case ${process#/proc/} in
            1 | $out | $err) ;;
            *) kill -9 "${process#/proc/}" 2>/dev/null ;;
        esac
    done
done
wait $out $err
. /rig/give
sync
end exit $status
