/* SPDX-License-Identifier: MIT */
/* SHA-256 by the examples of FIPS 180-4's makers (csrc.nist.gov, SHA256.pdf and SHAVS), and the table of what is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "clock.h"
#include "quarantine.h"

static bool
hashes(const unsigned char *data, size_t len, const char *expected)
{
	unsigned char digest[SHA256_SIZE];
	char text[2 * SHA256_SIZE + 1];

	sha256(data, len, digest);
	for (size_t i = 0; i < SHA256_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	return strcmp(text, expected) == 0;
}

static void
check_sha256(void)
{
	unsigned char *many = malloc(1000000);

	about = "sha256";
	CHECK(many != NULL);
	CHECK(hashes((const unsigned char *)"", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
	CHECK(hashes((const unsigned char *)"abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
	CHECK(hashes((const unsigned char *)"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56,
	    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"));
	memset(many, 0, 64);
	CHECK(hashes(many, 55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7"));
	CHECK(hashes(many, 56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb"));
	CHECK(hashes(many, 64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"));
	memset(many, 'a', 1000000);
	CHECK(hashes(many, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"));
	free(many);
}

static void
refuse(int cmd, const char *params, uint64_t until)
{
	struct quarantined entry = { .cmd = cmd, .len = strlen(params), .until = until };

	sha256((const unsigned char *)params, entry.len, entry.digest);
	quarantine_add(&entry);
}

static bool
holds(int cmd, const char *params)
{
	return quarantine_holds(cmd, (const unsigned char *)params, strlen(params));
}

static void
check_table(void)
{
	uint64_t now = now_ns(), hour = 3600000000000ull;
	char name[16];

	about = "table";
	CHECK(!holds(1, "ab"));
	refuse(1, "ab", now + hour);
	CHECK(holds(1, "ab") && !holds(2, "ab") && !holds(1, "ac") && !holds(1, "abc"));
	CHECK(!quarantine_holds(1, NULL, 0));
	refuse(-7, "xyz", now + hour);
	CHECK(holds(-7, "xyz") && holds(1, "ab"));
	refuse(-7, "xyz", now);		/* the same: no second place */
	CHECK(!holds(-7, "xyz"));
	about = "a full table";
	for (int i = 0; i < QUARANTINE_MOST + 1; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		refuse(3, name, now + 2 * hour + (uint64_t)i);
	}
	CHECK(!holds(1, "ab"));		/* those that ended first went */
	CHECK(!holds(3, "n0") && holds(3, "n1") && holds(3, "n64"));
}

int
main(void)
{
	check_sha256();
	check_table();
	return check_summary();
}
