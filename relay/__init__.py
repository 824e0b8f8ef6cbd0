from relay import timeouts

timeouts.mend()
