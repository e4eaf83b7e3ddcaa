"""One feature a file. Each offers the functions that it has of `for_switch`, `for_network`, `for_endpoint`,
`for_service`: all take a Context and the object, return flows (services: groups as well), and do nothing else.
"""
