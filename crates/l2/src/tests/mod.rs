mod announcer;
mod conflict;
mod rules;
mod times;
