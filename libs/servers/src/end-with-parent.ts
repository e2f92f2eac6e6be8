// Imported into a service that a local run has started, in front of its own code: whichever way the
// parent ends, its end of the channel closes, and the service is asked to stop.
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'));
process.channel?.unref();
