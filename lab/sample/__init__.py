"""The demo's company: invented people, their history, the configuration and the dialplan around ours."""
