"""What happens over several objects: paying, subscribing, renewing, and what comes later."""
