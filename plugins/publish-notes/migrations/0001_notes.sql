CREATE TABLE notes (post_id BIGINT, title TEXT);
