mod announcer;
