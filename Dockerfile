# The server in a container: docs/how-to/serve.md has the command lines, tests/foundation/test_container.py runs the steps.
FROM python:3.13-slim-bookworm AS build
COPY pyproject.toml README.md LICENSE NOTICE /source/
COPY src /source/src
RUN python -m venv /opt/featherpose \
    && /opt/featherpose/bin/pip install --no-cache-dir "/source[serve]"

FROM python:3.13-slim-bookworm
COPY --from=build /opt/featherpose /opt/featherpose
# Caches are all that is ever written; where they cannot be, kernels are compiled anew at each start.
RUN install --directory --owner=10001 --group=10001 /var/cache/featherpose
ENV PATH="/opt/featherpose/bin:$PATH" \
    HOME=/nonexistent \
    XDG_CACHE_HOME=/var/cache/featherpose \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
# Finds the people of the shipped photograph: the image works, and kernels are compiled for processors like this one.
RUN featherpose demo --output /tmp/demo && rm -r /tmp/demo
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["featherpose", "serve", "--host", "0.0.0.0", "--port", "8000"]
