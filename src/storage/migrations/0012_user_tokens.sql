-- Tokens of a user that were issued at this time or before are not valid any more.
CREATE TABLE user_tokens_revoked (
  app_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  not_before {int} NOT NULL,
  PRIMARY KEY (app_id, user_id)
);
CREATE INDEX user_tokens_revoked_age ON user_tokens_revoked (not_before);
