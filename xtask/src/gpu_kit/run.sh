#!/bin/sh
# Checks a GPU with this project's programs and measures it: sh run.sh [--minutes 8] [--device cuda|cpu] [--only PHASE,…]
# It needs a driver and libtorch 2.11 with CUDA, which it finds by itself: in --torch DIR, in lib beside this script, in a Python
# that has torch 2.11, or where this project's own libtorch was when the kit was built. The report: report/report.md.
set -u
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
device=cuda torch='' previous=''
for word in "$@"; do
  case $previous in
    --device) device=$word ;;
    --torch) torch=$word ;;
  esac
  case $word in
    --device=*) device=${word#*=} ;;
    --torch=*) torch=${word#*=} ;;
  esac
  previous=$word
done

# Whether a folder holds what the device needs.
fits() {
  [ -e "$1/libtorch_cpu.so" ] || return 1
  [ "$device" = cpu ] || [ -e "$1/libtorch_cuda.so" ]
}

# Whether a folder of torch is of the version that the programs were built with.
known() {
  [ -r "$1/version.py" ] && case $(cat "$1/version.py") in *"__version__ = '2.11."*) true ;; *) false ;; esac
}

# The folder of a package of a Python; the package is not loaded.
package() {
  "$1" -c 'import importlib.util as u, os, sys
s = u.find_spec(sys.argv[1])
print(os.path.dirname(s.origin) if s and s.origin else "")' "$2" 2>/dev/null
}

python='' jax='' found=''
for candidate in "${VIRTUAL_ENV:-/nowhere}/bin/python" python3 python /usr/bin/python3 /usr/local/bin/python3 \
  /opt/conda/bin/python /opt/*/bin/python3 "${HOME:-/nowhere}"/*conda*/bin/python "${HOME:-/nowhere}"/.venv/bin/python; do
  command -v "$candidate" >/dev/null 2>&1 || continue
  folder=$(package "$candidate" torch)
  if [ -z "$python" ] && [ -n "$folder" ] && known "$folder"; then
    python=$candidate found=$folder/lib
  fi
  if [ -z "$jax" ] && [ -n "$(package "$candidate" jax)" ]; then jax=$candidate; fi
done

if [ -n "$torch" ]; then
  fits "$torch" || { echo "--torch $torch: holds no libtorch for $device" >&2; exit 2; }
  lib=$torch
else
  lib=''
  for folder in "$here/lib" "$found"; do
    if [ -n "$folder" ] && fits "$folder"; then lib=$folder; break; fi
  done
fi
if [ -n "$lib" ]; then
  # In front: what was set before may be what finds the driver's libcuda.so.1.
  export LD_LIBRARY_PATH="$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" MEANFLOW_TORCH_LIB="$lib"
  [ -n "$torch" ] || set -- --torch "$lib" "$@"
fi
[ -z "$python" ] || set -- --python "$python" "$@"
[ -z "$jax" ] || set -- --jax "$jax" "$@"
exec "$here/bin/kit" --kit "$here" "$@"
