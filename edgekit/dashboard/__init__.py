"""Dashboard: a web page over the store that stays up to date: the fleet, its latency, rollouts, alerts."""
