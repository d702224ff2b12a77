"""`rexnet-gate`: may this release go out?"""
