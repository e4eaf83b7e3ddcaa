# shellcheck shell=bash disable=SC2034
# The image of walk-throughs: alpine where it is here or can be pulled, else one made of Debian's busybox.

have_image() { engine image "$1" >/dev/null 2>&1; }

# Debian's static busybox and a nc with the options that people type.
make_image() {
    local root applet
    [ -x /bin/busybox ] || die "/bin/busybox is missing (Debian's busybox-static)"
    root=$(mktemp -d)
    mkdir -p "$root"/{bin,dev,etc,proc,root,sys,tmp}
    cp /bin/busybox "$root/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    rm "$root/bin/nc"
    cp scripts/nc "$root/bin/nc"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    # This shell takes its own nc before that of the PATH.
    # shellcheck disable=SC2016 # expanded in the container
    echo 'nc() { /bin/nc "$@"; }' >"$root/etc/shrc"
    tar -C "$root" --owner=0 --group=0 -c . |
        engine --timeout 60 import "$DEMO_IMAGE" 'CMD ["sh"]' 'ENV ENV=/etc/shrc' || die "the image $DEMO_IMAGE could not be made"
    rm -rf "$root"
}
