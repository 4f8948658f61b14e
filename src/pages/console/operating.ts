/** An item of `GET /revocations` (protocol §15), as far as the console shows it. */
export interface RevocationItem {
  readonly id: string;
  readonly sub: string | null;
  readonly tenantId: string | null;
  readonly jti: string | null;
  readonly before: string;
  readonly createdAt: string;
}
