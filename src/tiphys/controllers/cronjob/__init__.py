"""The cron job controller: creates Jobs on a schedule."""
