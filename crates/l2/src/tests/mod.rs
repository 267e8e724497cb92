mod announcer;
mod conflict;
