mod announcer;
mod conflict;
mod doubt;
mod rules;
mod standing;
mod times;
