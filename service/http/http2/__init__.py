"""HTTP/2 (RFC 9113) on a socket, whose requests are answered like those of HTTP/1.1.

opening     tells HTTP/2 from HTTP/1.1 by the first bytes of a connection
connection  the asyncio protocol: a socket, its streams, and the requests on them
request     a request on a stream, as its handler sees it
streams     the rules by which frames open, change and end streams; it knows no socket
stream      one request and its answer
sending     the answers that wait for the peer: flow control
frames      the frames as bytes
fields      header blocks (HPACK, RFC 7541) of requests
answers     header lines to header blocks
budgets     the limits on frames that bring no request
faults      the errors of a peer, which end a stream or the connection
"""
