"""`/v1`: HTTP requests become RPCs as the google.api.http rules of the descriptors say; no route is written by hand.

How JSON is read and written: proto3's JSON mapping (google.protobuf.json_format). Names are lowerCamelCase in
answers and may be either way in requests. Answers write empty fields too, but for messages that are not set and
empty INPUT_ONLY fields. Unknown fields and parameters are refused, never ignored; so are numbers (of 32 bits, floating
ones, those of enums) that a body writes as texts, which the mapping would take: the OpenAPI document promises no more.
A body is required wherever it can say something, if only as `{}`: who forgets it does not mean everything.
A PATCH without `updateMask` changes the fields that its body states, each as a whole, but for those that nobody may
change (output only, immutable, the name, the etag). Errors are google.rpc.Status: `{"error": {code, message,
status, details}}`, where `code` is the HTTP status. The request's id is in the header
`x-request-id` of every answer.

A stream of answers is a line of JSON for each message, and a google.api.HttpBody is bytes of its own content type, in
answers and in bodies (docs/decisions/0018). Streams of requests are not served.
"""
