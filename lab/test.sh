#!/bin/sh
# Runs pytest with a directory of its own below var, so that runs at the same time do not meet and nothing is left
# elsewhere; for the Makefile. The first argument is the Python to use, the others are pytest's. Without others, the tests
# of two files at a time, each by a process of its own, as most of them only wait.
set -eu
python=$1
shift
if [ $# = 0 ]; then
    set -- -n 2 --dist loadfile --no-loadscope-reorder --durations=15
    # Both processes have to find the same tests in the same order.
    export PYTHONHASHSEED="${PYTHONHASHSEED:-$$}"
fi
mkdir -p var/tests
# Of earlier runs that failed; a directory whose lock is held is still in use.
for old in var/tests/*/; do
    [ ! -d "$old" ] || flock --nonblock "$old" rm -rf "$old" || true
done
directory=$(mktemp -d "$PWD/var/tests/XXXXXX")
exec 9<"$directory"
flock 9
status=0
TMPDIR=$directory "$python" -m pytest --basetemp="$directory/t" "$@" 9<&- || status=$?
# What tests that failed have written stays for a look.
[ $status != 0 ] || rm -rf "$directory"
exit $status
