BEGIN TRANSACTION;
CREATE TABLE codes (
	number INTEGER NOT NULL, 
	pool BIGINT NOT NULL, 
	digest VARCHAR(32) NOT NULL, 
	sealed TEXT NOT NULL, 
	expires_at DATETIME NOT NULL, 
	state VARCHAR(8) NOT NULL, 
	send BIGINT, 
	"key" VARCHAR(32), 
	profile_id TEXT NOT NULL, 
	reserved_by VARCHAR(80) NOT NULL, 
	changed_at DATETIME NOT NULL, 
	PRIMARY KEY (number), 
	CONSTRAINT one_code UNIQUE (pool, digest)
);
CREATE TABLE departures (
	number INTEGER NOT NULL, 
	sender VARCHAR(80) NOT NULL, 
	"key" VARCHAR(32) NOT NULL, 
	event VARCHAR(10) NOT NULL, 
	answer TEXT NOT NULL, 
	PRIMARY KEY (number)
);
CREATE TABLE identity (
	identity VARCHAR(32) NOT NULL, 
	created_at DATETIME NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	"key" TEXT NOT NULL, 
	PRIMARY KEY (identity)
);
INSERT INTO "identity" VALUES('4c5c1bf0118722267110dea78e68c9c6','2026-11-26 06:51:13.412580','06eef40cb72807afb684c498ad223f021f4387cda673cb50652f500077b5a397','d88f631c15aa88e6340161a28e31d8a227655b4aa91bb3826b1556163e5bf16d');
CREATE TABLE journal_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT journal_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "journal_version" VALUES('0008');
CREATE TABLE messages (
	number INTEGER NOT NULL, 
	send BIGINT NOT NULL, 
	"key" VARCHAR(32) NOT NULL, 
	variant TEXT DEFAULT '' NOT NULL, 
	profile_id TEXT NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	sender VARCHAR(80) NOT NULL, 
	attempts INTEGER NOT NULL, 
	changed_at DATETIME NOT NULL, 
	answer TEXT NOT NULL, 
	PRIMARY KEY (number), 
	CONSTRAINT one_message UNIQUE (send, "key")
);
INSERT INTO "messages" VALUES(1,1,'30c32f1e11fb49baea8da4aee637d86a','','1','sent','vm/24276/0a6b240343f76f53',1,'2026-11-26 06:51:13.727941','250 2.0.0 Ok: queued as 00000001');
INSERT INTO "messages" VALUES(2,1,'b399da23e167363d55666c00318853c6','','2','sent','vm/24276/0a6b240343f76f53',1,'2026-11-26 06:51:13.727941','250 2.0.0 Ok: queued as 00000002');
CREATE TABLE outcomes (
	number INTEGER NOT NULL, 
	"key" VARCHAR(32) NOT NULL, 
	kind VARCHAR(12) NOT NULL, 
	at DATETIME NOT NULL, 
	source TEXT NOT NULL, 
	reference TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (number), 
	CONSTRAINT one_outcome UNIQUE ("key", kind, source, reference)
);
CREATE TABLE paces (
	account TEXT NOT NULL, 
	next_at DOUBLE NOT NULL, 
	PRIMARY KEY (account)
);
CREATE TABLE pools (
	number INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	columns TEXT NOT NULL, 
	low INTEGER NOT NULL, 
	batches INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (number), 
	CONSTRAINT one_pool UNIQUE (name)
);
CREATE TABLE positions (
	source VARCHAR(200) NOT NULL, 
	position TEXT NOT NULL, 
	changed_at DATETIME NOT NULL, 
	PRIMARY KEY (source)
);
CREATE TABLE seats (
	account TEXT NOT NULL, 
	sender VARCHAR(80) NOT NULL, 
	held INTEGER NOT NULL, 
	wanted INTEGER NOT NULL, 
	expires_at DATETIME NOT NULL, 
	PRIMARY KEY (account, sender)
);
CREATE TABLE senders (
	sender VARCHAR(80) NOT NULL, 
	expires_at DATETIME NOT NULL, 
	PRIMARY KEY (sender)
);
INSERT INTO "senders" VALUES('vm/24276/0a6b240343f76f53','2026-11-26 06:51:13.732635');
CREATE TABLE sends (
	number INTEGER NOT NULL, 
	campaign TEXT NOT NULL, 
	business_date DATE NOT NULL, 
	channel TEXT NOT NULL, 
	label TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	changed_at DATETIME NOT NULL, forgotten_at DATETIME, 
	PRIMARY KEY (number), 
	CONSTRAINT one_send UNIQUE (campaign, business_date, channel)
);
INSERT INTO "sends" VALUES(1,'by-mail','2026-11-24','email','By mail','','2026-11-26 06:51:13.686678','2026-11-26 06:51:13.686678',NULL);
CREATE TABLE suppressions (
	number INTEGER NOT NULL, 
	kind VARCHAR(12) NOT NULL, 
	channel TEXT NOT NULL, 
	address VARCHAR(64) NOT NULL, 
	profile_id TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	source TEXT NOT NULL, 
	count INTEGER NOT NULL, 
	needed INTEGER NOT NULL, 
	first_at DATETIME NOT NULL, 
	last_at DATETIME NOT NULL, 
	expires_at DATETIME, 
	released_at DATETIME, 
	released_by TEXT DEFAULT '' NOT NULL, 
	released_why TEXT DEFAULT '' NOT NULL, 
	PRIMARY KEY (number), 
	CONSTRAINT one_suppression UNIQUE (address, profile_id, kind, channel)
);
CREATE TABLE unmatched (
	number INTEGER NOT NULL, 
	source TEXT NOT NULL, 
	reference TEXT NOT NULL, 
	kind VARCHAR(12) NOT NULL, 
	at DATETIME NOT NULL, 
	reason TEXT NOT NULL, 
	payload TEXT NOT NULL, 
	matched_at DATETIME, 
	PRIMARY KEY (number), 
	CONSTRAINT one_unmatched UNIQUE (source, reference)
);
CREATE INDEX ix_departures_sender ON departures (sender);
CREATE INDEX suppressions_of_a_profile ON suppressions (profile_id);
CREATE INDEX claimed_messages ON messages (send, sender) WHERE state = 'claimed';
CREATE UNIQUE INDEX one_code_of_a_message ON codes (send, "key", pool) WHERE key IS NOT NULL;
CREATE INDEX free_codes ON codes (pool, expires_at, number) WHERE state = 'free';
COMMIT;
