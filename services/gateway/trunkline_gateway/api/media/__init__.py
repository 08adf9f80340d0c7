"""Bytes of recordings over HTTP, in and out: what google.api.http rules cannot say.

Uploads follow Google's resumable protocol (308, Content-Range), downloads HTTP's ranges;
docs/decisions/0050-uploads-and-downloads.md says why.
"""
