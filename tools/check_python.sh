#!/bin/sh
# Whether an interpreter can carry the project; if not, one line says why. Usage: check_python.sh python3
python=$1

if ! command -v "$python" > /dev/null 2>&1; then
    echo "error: there is no $python here: install Python 3.10 to 3.12, or name one: make venv PYTHON=/path/to/python" >&2
    exit 1
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null)
case $version in
    3.10 | 3.11 | 3.12) ;;
    *)
        echo "error: $python is Python ${version:-of no version}, 3.10 to 3.12 is needed: make venv PYTHON=python3.11" >&2
        exit 1
        ;;
esac
if ! "$python" -c 'import ensurepip, venv' > /dev/null 2>&1; then
    echo "error: $python cannot create environments: apt-get install python$version-venv (as root)" >&2
    exit 1
fi
if ! "$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' > /dev/null 2>&1; then
    echo "error: PaddlePaddle needs the system library libgomp: apt-get install libgomp1 (as root)" >&2
    exit 1
fi
