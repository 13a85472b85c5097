"""What is asked before an object is stored: defaults, refusals and warnings, as pure functions and as a web server.

`review` takes the API server's question and gives the answer; one module a kind holds that kind's rules. The same
functions tell the planners what is wrong with an object that was stored while nobody asked.
"""
